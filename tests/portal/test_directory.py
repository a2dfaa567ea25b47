"""Whose account it is, by Entra's directory: the object id of the account, asked at Graph."""

from __future__ import annotations

import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from distributor import bootstrap
from distributor.bootstrap.portal import address_of
from distributor.config import Settings
from distributor.errors import ServiceUnavailable
from tests.doubles.graphd import Cloud
from tests.doubles.graphd.caller import SECRET


@pytest.fixture
def settings(tmp_path: Path, running: Cloud, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A workspace whose roster is the directory."""
    for name, value in running.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("THE_SECRET", SECRET)
    app = running.app(secrets={SECRET: None}, roles=["User.Read.All"])
    (tmp_path / "distributor.toml").write_text(
        '[organisation]\nname = "Example AG"\n[sender]\naddress = "certificates@example.org"\n'
        '[transport]\nkind = "folder"\npath = "out"\n[vault]\n'
        'recipients = ["age1kgrg5wfd98h3qgrkhqxnhrgqjzyqkv0u63tnvq3g2ktcvukqc9jsllaj0r"]\n'
        f'[[rosters]]\nkind = "graph"\ntenant = "{running.tenant}"\nclient_id = "{app}"\nsecret = "env:THE_SECRET"\n'
        f'login = "{running.login}"\ngraph = "{running.graph}"\n',
        encoding="utf-8",
    )
    return bootstrap.settings(tmp_path / "distributor.toml")


def test_an_object_id_has_the_address_that_the_directory_says(settings: Settings, running: Cloud) -> None:
    alice = running.user("alice@example.org")
    assert address_of(settings, alice) == "alice@example.org"
    assert address_of(settings, alice.upper()) == "alice@example.org"


def test_nobody_is_found_by_sign_in_name_or_when_disabled_or_unknown(settings: Settings, running: Cloud) -> None:
    running.user("bob@example.org")
    assert address_of(settings, "bob@example.org") is None
    assert address_of(settings, running.user("carol@example.org", accountEnabled=False)) is None
    assert address_of(settings, running.user(None, userPrincipalName="dave@example.org")) is None
    assert address_of(settings, str(uuid.uuid4())) is None


def test_the_address_of_a_guest_counts_only_where_the_roster_has_guests(settings: Settings, running: Cloud) -> None:
    guest = running.user("bob@example.org", userType="Guest")
    assert address_of(settings, guest) is None
    settings.file.write_text(f"{settings.file.read_text(encoding='utf-8')}guests = true\n", encoding="utf-8")
    assert address_of(bootstrap.settings(settings.file), guest) == "bob@example.org"


def test_without_a_roster_of_entra_nobody_is_asked(settings: Settings) -> None:
    assert address_of(replace(settings, rosters=()), str(uuid.uuid4())) is None


def test_a_directory_that_refuses_is_an_error(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_SECRET", "a-wrong-secret")
    again = bootstrap.settings(settings.file)
    with pytest.raises(ServiceUnavailable):
        address_of(again, str(uuid.uuid4()))
