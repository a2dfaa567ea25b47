"""distributor.toml: everything wrong at once, with line and dotted key; nothing literal that is secret."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest

from distributor import bootstrap
from distributor.bootstrap import delivery
from distributor.config import Settings, read
from distributor.errors import Error, ErrorGroup, InvalidInput

RECIPIENT = "age1wle06ez9n86zvcxs5klx6k6dvk497zueep9jl0nmuerm42x8w3dqdx8v2t"
GOOD = f"""
[organisation]
name = "Example AG"
languages = ["en", "fr"]
[sender]
address = "certificates@example.org"
[transport]
kind = "smtp"
host = "127.0.0.1"
port = 2525
tls = "none"
[vault]
recipients = ["{RECIPIENT}"]
"""


@pytest.fixture
def toml(tmp_path: Path) -> Path:
    return tmp_path / "distributor.toml"


def settings(toml: Path, text: str = GOOD) -> Settings:
    toml.write_text(text, encoding="utf-8")
    return read(toml, bootstrap.AdapterRegistry())


def faults(toml: Path, text: str) -> list[str]:
    with pytest.raises(ErrorGroup) as caught:
        settings(toml, text)
    return [str(fault) for fault in caught.value.faults]


def test_a_short_file_is_enough(toml: Path) -> None:
    found = settings(toml)
    assert str(found.sender.address) == "certificates@example.org"
    assert found.password.expires == timedelta(days=14)
    assert found.ledger.url == "sqlite:///distributor.db"
    assert found.limits.file == 2**20


def test_every_fault_is_told_at_once_with_line_and_dotted_name(toml: Path) -> None:
    errors = faults(
        toml,
        f"""
[organisation]
nam = "Example AG"
[sender]
address = "anna@exmaple"
[transport]
kind = "smtp"
host = "127.0.0.1"
port = "25"
tls = "none"
conections = 3
[password]
expires = "a fortnight"
channel = "message"
[vault]
recipients = ["{RECIPIENT}"]
[portal]
url = "https://example.org"
[[sources]]
kind = "ldap"
""",
    )
    assert errors == [
        "distributor.toml line 2: organisation.name: missing",
        'distributor.toml line 3: organisation.nam: unknown key; did you mean "name"?',
        'distributor.toml line 5: sender.address: "anna@exmaple" is not a mail address',
        'distributor.toml line 9: transport.port: "25" is not a whole number',
        'distributor.toml line 11: transport.conections: unknown key; did you mean "connections"?',
        'distributor.toml line 13: password.expires: "a fortnight" is not a duration such as "14d" (or "12h", "30min", "60s")',
        "distributor.toml line 17: portal.authority: missing",
        "distributor.toml line 17: portal.client_id: missing",
        'distributor.toml line 20: sources[0].kind: unknown source "ldap"',
    ]


def test_a_channel_of_another_version_is_named_beside_other_faults(toml: Path) -> None:
    errors = faults(toml, GOOD.replace('name = "Example AG"', "name = 4") + '[password]\nchannel = "pigeon"\n')
    assert errors == [
        "distributor.toml line 3: organisation.name: 4 is not a text",
        'distributor.toml line 15: password.channel: unknown channel "pigeon"',
    ]


@pytest.mark.parametrize("table", ["organisation", "sender", "transport", "vault"])
def test_a_missing_table_is_named(toml: Path, table: str) -> None:
    without = "\n".join(part for part in GOOD.replace("\n[", "\x00[").split("\x00") if not part.startswith(f"[{table}]"))
    assert faults(toml, without) == [f"distributor.toml: {table}: missing"]


PORTAL = '[portal]\nurl = "https://certificates.example.org"\nauthority = "https://login.example.org/v2.0"\nclient_id = "c"\n'


@pytest.mark.parametrize(
    ("was", "now", "fault"),
    [
        ("https://cert", "http://cert", "line 15: portal.url: http would be unencrypted"),
        ("https://login.example.org/v2.0", "login.example.org", 'line 16: portal.authority: "login.example.org" is not a web address'),
        ('"c"', '"c"\ndaily = 0', "line 18: portal.daily: less than 1"),
        ('"c"', '"c"\nrequests = "never"', 'line 18: portal.requests: "never" is not one of approve, automatic'),
        ('"c"', '"c"\nsecret = "hunter2"', "line 18: portal.secret"),
    ],
)
def test_a_portal_that_could_not_work_is_refused(toml: Path, was: str, now: str, fault: str) -> None:
    (found,) = faults(toml, GOOD + PORTAL.replace(was, now, 1))
    assert fault in found
    assert "hunter2" not in found


def test_a_portal_may_be_plain_on_this_machine_only(toml: Path) -> None:
    portal = settings(toml, GOOD + PORTAL.replace("https://certificates.example.org", "http://localhost:8000")).portal
    assert portal is not None
    assert (portal.url, portal.requests, portal.daily) == ("http://localhost:8000", "approve", 3)


@pytest.mark.parametrize(("key", "value"), [("colour", "blue"), ("logo", "logo.exe")])
def test_a_look_that_could_not_be_shown_is_refused(toml: Path, key: str, value: str) -> None:
    (found,) = faults(toml, GOOD.replace('name = "Example AG"', f'name = "Example AG"\n{key} = "{value}"'))
    assert f"organisation.{key}" in found


def test_an_unknown_table_is_a_fault(toml: Path) -> None:
    assert faults(toml, GOOD + "[pasword]\n") == ['distributor.toml line 14: pasword: unknown key; did you mean "password"?']


def test_a_literal_secret_is_refused_and_not_shown(toml: Path) -> None:
    with pytest.raises(ErrorGroup) as caught:
        settings(toml, GOOD.replace('tls = "none"', 'tls = "starttls"\npassword = "hunter2:literally"'))
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
    assert "transport.password: a secret must be a reference, not the secret itself" in str(caught.value)
    assert "env:NAME" in str(caught.value.hint)


def test_messages_in_clear_are_refused_when_the_file_is_read(toml: Path) -> None:
    assert "would be unencrypted" in faults(toml, GOOD.replace("127.0.0.1", "mx.example.org"))[0]


def test_broken_toml_names_its_line(toml: Path) -> None:
    with pytest.raises(InvalidInput, match=r"distributor\.toml line 3: not valid TOML") as caught:
        settings(toml, "[organisation]\nname = 'x'\nlanguages = en\n[sender]\n")
    assert caught.value.exit_code == 3


def test_a_file_that_is_not_utf8_names_its_line(toml: Path) -> None:
    toml.write_bytes(b'[organisation]\nname = "Z\xfcrich"\n')
    with pytest.raises(InvalidInput, match="line 2: not UTF-8"):
        read(toml, bootstrap.AdapterRegistry())


def test_a_byte_order_mark_does_not_matter(toml: Path) -> None:
    toml.write_text("\ufeff" + GOOD, encoding="utf-8")
    assert read(toml, bootstrap.AdapterRegistry()).organisation.name == "Example AG"


def test_exchange_online_gets_its_own_pace_unless_the_file_says_otherwise(toml: Path) -> None:
    text = GOOD.replace("127.0.0.1", "smtp.office365.com").replace("none", "starttls").replace("2525", "587")
    origins = settings(toml, text).origins
    assert (origins["transport.connections"].value, origins["transport.connections"].origin) == (3, "default for smtp.office365.com")
    assert (origins["transport.rate"].value, origins["transport.rate"].origin) == ("30/min", "default for smtp.office365.com")
    assert delivery.transport(settings(toml, text)).per_minute == 30
    chosen = settings(toml, text.replace('kind = "smtp"', 'kind = "smtp"\nrate = "2/s"'))
    assert chosen.origins["transport.rate"].origin == "distributor.toml line 9"
    assert delivery.transport(chosen).per_minute == 120
    assert delivery.transport(chosen).max_connections == 3


def test_a_secret_is_shown_as_its_reference_and_read_when_it_is_needed(toml: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = GOOD.replace('tls = "none"', 'tls = "starttls"\npassword = "env:SMTP_PASSWORD"')
    found = settings(toml, text)
    assert found.origins["transport.password"].value == "env:SMTP_PASSWORD"
    assert found.origins["transport.username"].value == "certificates@example.org"
    monkeypatch.delenv("SMTP_PASSWORD", raising=False)
    with pytest.raises(InvalidInput, match="environment variable SMTP_PASSWORD is not set"):
        delivery.transport(found)
    monkeypatch.setenv("SMTP_PASSWORD", "open sesame")
    assert delivery.transport(found).settings.password.reveal() == "open sesame"  # type: ignore[attr-defined]


def test_a_password_in_the_ledgers_url_is_not_shown(toml: Path) -> None:
    shown = settings(toml, GOOD + '[ledger]\nurl = "postgresql+psycopg://me:sesame@db/messages"\n').origins["ledger.url"].value
    assert shown == "postgresql+psycopg://me:***@db/messages"


def test_too_weak_passwords_are_refused(toml: Path) -> None:
    assert "password.groups" in faults(toml, GOOD + "[password]\ngroups = 2\n")[0]


def test_an_error_of_several_faults_says_them_all(toml: Path) -> None:
    with pytest.raises(Error) as caught:
        settings(toml, "[sender]\n")
    assert str(caught.value).count("missing") == 4


def test_each_fault_has_a_way_out_of_its_own(toml: Path) -> None:
    with pytest.raises(ErrorGroup) as caught:
        settings(toml, GOOD.replace('kind = "smtp"', 'kind = "smpt"').replace("[sender]", "[nonsense]\nx = 1\n[sender]"))
    kind, nonsense = (fault.hint or "" for fault in sorted(caught.value.faults, key=lambda fault: "transport.kind" not in fault.message))
    assert kind == "use one of: folder, graph, smtp"
    assert "organisation" in nonsense


def test_a_profile_that_is_none_is_refused_with_those_there_are(toml: Path) -> None:
    (errors,) = faults(toml, GOOD + '[package]\nprofile = "phnoe"\n')
    assert errors.endswith('package.profile: "phnoe" is not one of phone, modern')


def test_limits_that_let_nothing_in_are_refused(toml: Path) -> None:
    errors = faults(toml, GOOD + "[limits]\nfile = 0\narchive = -5\niterations = 0\nopen_seconds = 0\n")
    assert [line.partition(": ")[2].partition(":")[0] for line in errors] == [
        "limits.file",
        "limits.archive",
        "limits.iterations",
        "limits.open_seconds",
    ]


def test_a_port_that_is_none_is_refused(toml: Path) -> None:
    assert faults(toml, GOOD.replace("port = 2525", "port = 99999")) == [
        "distributor.toml line 10: transport.port: 99999 is not a port number"
    ]


def test_a_table_written_twice_is_named_as_the_file_writes_it(toml: Path) -> None:
    with pytest.raises(InvalidInput) as refused:
        settings(toml, GOOD + "[transport]\n")
    assert refused.value.message == f"[transport] is there twice, first in line {1 + GOOD.splitlines().index('[transport]')}"
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("replace this table: keep one of the two, in line ")


@pytest.mark.parametrize("by_environment", [False, True])
def test_a_named_pipe_as_the_configuration_is_refused_for_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, by_environment: bool
) -> None:
    os.mkfifo(pipe := tmp_path / "pipe")
    monkeypatch.setenv("DISTRIBUTOR_CONFIG", str(pipe))
    with pytest.raises(InvalidInput, match="not a regular file"):
        bootstrap.settings(None if by_environment else pipe)
