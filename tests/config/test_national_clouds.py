"""What a configuration says of the cloud it signs in at: a token in a file, and what a token for a mail server is for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from distributor import bootstrap
from distributor.bootstrap import delivery
from distributor.config import Settings, read
from distributor.errors import ErrorGroup
from tests.config.test_loader import GOOD

SMTP = 'kind = "smtp"\nhost = "127.0.0.1"\nport = 2525\ntls = "none"\n'


def settings(folder: Path, transport: str) -> Settings:
    toml = folder / "distributor.toml"
    toml.write_text(GOOD.replace(SMTP, transport), encoding="utf-8")
    return read(toml, bootstrap.AdapterRegistry())


def graph(assertion: str) -> str:
    return f'kind = "graph"\ntenant = "example.org"\nclient_id = "0f12"\nassertion = "{assertion}"\n'


def smtp(host: str, more: str = "") -> str:
    return f'kind = "smtp"\nhost = "{host}"\noauth = {{tenant = "example.org", client_id = "0f12", assertion = "file:token"}}\n{more}'


def shaped(found: Settings) -> Any:  # noqa: ANN401  an adapter's own
    return bootstrap.load_settings(found, "transports", found.transport)


@pytest.mark.parametrize("written", ["file:token", "token"])
def test_a_workloads_token_is_a_file_beside_the_configuration(tmp_path: Path, written: str) -> None:
    found = settings(tmp_path, graph(written))
    assert shaped(found).assertion == tmp_path / "token"
    assert found.origins["transport.assertion"].value == written


@pytest.mark.parametrize("written", ["file:/run/token", "/run/token"])
def test_a_workloads_token_may_lie_anywhere(tmp_path: Path, written: str) -> None:
    assert shaped(settings(tmp_path, graph(written))).assertion == Path("/run/token")


@pytest.mark.parametrize("written", ["env:TOKEN", "keyring:a/b", "cred:token", "file:"])
def test_what_cannot_be_read_again_is_no_place_for_a_workloads_token(tmp_path: Path, written: str) -> None:
    with pytest.raises(ErrorGroup) as caught:
        settings(tmp_path, graph(written))
    (fault,) = caught.value.faults
    assert "transport.assertion" in str(fault)
    assert "file:PATH" in str(fault.hint)


def test_the_token_of_an_smtp_sign_in_is_written_alike(tmp_path: Path) -> None:
    assert shaped(settings(tmp_path, smtp("smtp.office365.com"))).oauth.assertion == tmp_path / "token"


@pytest.mark.parametrize(
    ("host", "resource", "origin"),
    [
        ("smtp.office365.com", "https://outlook.office365.com", "default"),
        ("smtp.office365.us", "https://outlook.office365.us", "default for smtp.office365.us"),
        ("SMTP.Office365.US.", "https://outlook.office365.us", "default for SMTP.Office365.US."),
        ("outlook-dod.office365.us", "https://outlook-dod.office365.us", "default for outlook-dod.office365.us"),
        ("smtp.partner.outlook.cn", "https://partner.outlook.cn", "default for smtp.partner.outlook.cn"),
    ],
)
def test_a_token_is_for_the_cloud_of_the_mail_server(tmp_path: Path, host: str, resource: str, origin: str) -> None:
    (tmp_path / "token").write_text("a.b.c")
    found = settings(tmp_path, smtp(host))
    opened = delivery.transport(found)
    assert (opened.settings.resource, opened.max_connections, opened.per_minute) == (resource, 3, 30.0)  # type: ignore[attr-defined]
    assert (found.origins["transport.resource"].value, found.origins["transport.resource"].origin) == (resource, origin)


def test_what_is_written_about_a_token_counts(tmp_path: Path) -> None:
    found = settings(tmp_path, smtp("smtp.office365.us", 'resource = "https://another.example.org"\n'))
    assert delivery.transport(found).settings.resource == "https://another.example.org"  # type: ignore[attr-defined]
    assert found.origins["transport.resource"].origin.startswith("distributor.toml line ")
