"""Tables of adapters: several mailboxes, who knows the state of messages, people from the directory, and one registration for all."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributor import bootstrap
from distributor.bootstrap import delivery
from distributor.bootstrap.mailboxes import notice_rules
from distributor.config import Settings, read
from distributor.errors import ErrorGroup, InvalidInput
from tests.config.test_loader import GOOD

REGISTRATION = 'tenant = "example.org"\nclient_id = "0f1269f4"\nsecret = "env:APP_SECRET"\n'
GRAPH = GOOD.replace('kind = "smtp"\nhost = "127.0.0.1"\nport = 2525\ntls = "none"\n', f'kind = "graph"\n{REGISTRATION}')


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "distributor.toml"


def settings(toml: Path, text: str) -> Settings:
    toml.write_text(text, encoding="utf-8")
    return read(toml, bootstrap.AdapterRegistry())


def faults(toml: Path, text: str) -> list[str]:
    with pytest.raises(ErrorGroup) as caught:
        settings(toml, text)
    return [str(fault).partition(": ")[2] for fault in caught.value.faults]


def test_more_mailboxes_stand_beside_the_first_and_bear_its_name(toml: Path) -> None:
    found = settings(toml, GOOD + '[[senders]]\naddress = "two@example.org"\n[[senders]]\naddress = "three@example.org"\nname = "Three"\n')
    assert delivery.senders(found) == ("certificates@example.org", "two@example.org", "three@example.org")
    assert [mailbox.name for mailbox in found.mailboxes] == ["", "", "Three"]
    assert found.origins["senders[1].name"].origin == "distributor.toml line 18"
    assert delivery.senders(settings(toml, GOOD)) == ()


def test_a_mailbox_stands_there_once(toml: Path) -> None:
    text = GOOD + '[[senders]]\naddress = "two@example.org"\n[[senders]]\naddress = "TWO@example.org"\n[[senders]]\naddress = "a@b"\n'
    assert faults(toml, text) == [
        'senders[2].address: "a@b" is not a mail address',
    ]
    text = text.partition('[[senders]]\naddress = "a@b"')[0]
    assert faults(toml, text) == ['senders[1].address: "TWO@example.org" is listed twice']
    assert faults(toml, GOOD + '[[senders]]\naddress = "certificates@example.org"\n') == [
        'senders[0].address: "certificates@example.org" is listed twice'
    ]


def test_a_tracker_of_kind_graph_reads_the_senders_mailbox_unless_it_names_one(toml: Path) -> None:
    found = settings(toml, GRAPH + '[[trackers]]\nkind = "graph"\n[[trackers]]\nkind = "graph"\nmailbox = "two@example.org"\n')
    assert [table.values["mailbox"] for table in found.trackers] == ["certificates@example.org", "two@example.org"]
    assert "mailbox" not in settings(toml, GRAPH + '[[trackers]]\nkind = "trace"\n').trackers[0].values


def test_trackers_and_rosters_take_the_transports_registration(toml: Path) -> None:
    found = settings(toml, GRAPH + '[[trackers]]\nkind = "trace"\n[[rosters]]\nkind = "graph"\ngroup = "7"\n')
    for table in (*found.trackers, *found.rosters):
        assert (table.values["tenant"], table.values["client_id"], table.values["secret"]) == ("example.org", "0f1269f4", "env:APP_SECRET")


def test_a_registration_of_their_own_is_theirs_alone(toml: Path) -> None:
    own = 'tenant = "other.example"\nclient_id = "9"\nassertion = "token"\n'
    (table,) = settings(toml, GRAPH + f'[[trackers]]\nkind = "trace"\n{own}').trackers
    assert (table.values["tenant"], table.values.get("secret")) == ("other.example", None)


def test_the_registration_of_smtp_with_oauth_serves_them_too(toml: Path) -> None:
    oauth = 'oauth = {tenant = "example.org", client_id = "1", secret = "env:APP_SECRET"}\n'
    text = GOOD.replace('tls = "none"\n', f'tls = "starttls"\n{oauth}')
    (table,) = settings(toml, text + '[[trackers]]\nkind = "trace"\n').trackers
    assert (table.values["tenant"], table.values["secret"]) == ("example.org", "env:APP_SECRET")


def test_what_an_adapter_has_against_its_table_is_told_with_its_own_name(toml: Path) -> None:
    errors = faults(toml, GOOD + '[[trackers]]\nkind = "trace"\n')
    assert errors == ["trackers[0]: no credential is configured"]
    assert faults(toml, GRAPH.replace("tenant", "tenent")) == ['transport.tenent: unknown key; did you mean "tenant"?']
    assert faults(toml, GRAPH + '[[rosters]]\nkind = "csv"\n') == ['rosters[0].kind: unknown roster "csv"']
    assert faults(toml, GRAPH.replace("[vault]", "save_copy = 1\n[vault]")) == ["transport.save_copy: 1 is not true or false"]


def test_the_secret_of_a_registration_is_opened_when_it_is_needed(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = settings(toml, GRAPH)
    monkeypatch.delenv("APP_SECRET", raising=False)
    assert delivery.transport(found, signed_in=False).per_minute == 30
    with pytest.raises(InvalidInput, match="environment variable APP_SECRET is not set"):
        delivery.transport(found)


# --- requests by mail ------------------------------------------------------------------------------------------------

IMAP = '[[trackers]]\nkind = "imap"\nhost = "mail.example.org"\nusername = "certificates@example.org"\npassword = "env:IMAP_PASSWORD"\n'


def test_requests_by_mail_are_off_unless_written(toml: Path) -> None:
    assert not settings(toml, GOOD + IMAP).requests.by_mail
    found = settings(toml, GOOD + IMAP + '[requests]\nby_mail = true\nauthserv_id = "mx.example.org"\naddress = "copies@example.org"\n')
    assert (found.requests.by_mail, found.requests.authserv_id, str(found.requests.address)) == (
        True,
        "mx.example.org",
        "copies@example.org",
    )
    assert notice_rules(found).own == {"certificates@example.org", "copies@example.org"}
    assert {"send again", "erneut senden", "renvoyer", "enviar de nuevo", "inviare di nuovo"} <= notice_rules(found).phrases


def test_requests_by_mail_need_a_host_that_authenticates(toml: Path) -> None:
    assert faults(toml, GOOD + "[requests]\nby_mail = true\n") == ["requests.authserv_id: missing"]
    assert faults(toml, GOOD + '[requests]\nauthserv_id = "mx example"\n') == [
        'requests.authserv_id: "mx example" is not the name of a host',
    ]


def test_a_mailbox_needs_one_way_to_sign_in_and_encryption(toml: Path) -> None:
    plain = IMAP.replace('password = "env:IMAP_PASSWORD"\n', "")
    assert faults(toml, GOOD + plain) == ["trackers[0].password: missing"]
    assert faults(toml, GOOD + IMAP + 'tls = "none"\n') == [
        'trackers[0].tls: the mailbox at "mail.example.org" would be read unencrypted',
    ]
    assert faults(toml, GOOD + IMAP + 'password_file = "x"\n') == ['trackers[0].password_file: unknown key; did you mean "password"?']
