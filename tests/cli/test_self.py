"""`distributor self`: one person, one file, a mail server; no ledger, no vault, no roster."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from datetime import timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.cli.screen import screen
from tests.needs import require
from tests.pfx import PASSWORD as OF_PAIRS
from tests.pfx import together
from tests.workspace import PASSWORD, Workspace

CONFIG = """
[organisation]
name = "Example AG"
languages = ["de", "en"]

[sender]
address = "certificates@example.org"

[transport]
kind = "smtp"
host = "127.0.0.1"
port = 0
tls = "none"
"""
SEND = "distributor self alice.pfx --password-file secret --yes --stdout"


@pytest.fixture
def alone(tmp_path: Path, authority: Authority) -> Iterator[Workspace]:
    """A folder with the smallest configuration, Alice's file and its password, and a server."""
    made = Workspace(tmp_path, authority)
    (tmp_path / "distributor.toml").write_text(CONFIG, encoding="utf-8")
    (tmp_path / "alice.pfx").write_bytes(authority.issue("alice@example.org", name="Alice").pfx(PASSWORD))
    (tmp_path / "secret").write_text(PASSWORD + "\n", encoding="utf-8")
    made.add_server()
    yield made
    made.close()


def put(workspace: Workspace, name: str, *addresses: str, days: int = 365, ago: int = 1) -> None:
    identity = workspace.authority.issue(*addresses, starts=timedelta(days=-ago), days=days)
    (workspace.folder / f"{name}.pfx").write_bytes(identity.pfx(PASSWORD))


def opens(package: bytes, password: str) -> str:
    """What OpenSSL finds in a package."""
    command = (require("openssl"), "pkcs12", "-passin", f"pass:{password}", "-nokeys", "-legacy")
    done = subprocess.run(command, input=package, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


def received(workspace: Workspace, number: int = 1) -> EmailMessage:
    assert len(workspace.handler.messages) == number
    message = message_from_bytes(workspace.handler.messages[-1], policy=default)
    assert isinstance(message, EmailMessage)
    return message


def package(message: EmailMessage) -> bytes:
    data = next(iter(message.iter_attachments())).get_payload(decode=True)
    assert isinstance(data, bytes)
    return data


def test_the_package_arrives_and_opens_with_the_password_that_was_shown(alone: Workspace) -> None:
    done = alone.run(f"{SEND} 2>said")
    assert done.returncode == 0, done.stdout
    message = received(alone)
    assert (message["To"], message["From"]) == ("Alice <alice@example.org>", "certificates@example.org")
    assert "Bildschirm des Computers" in message.get_body(("plain",)).get_content()  # type: ignore[union-attr]  it has one
    password = done.stdout.strip()
    assert password != PASSWORD
    assert "subject=CN = Alice" in opens(package(message), password)
    said = (alone.folder / "said").read_text(encoding="utf-8")
    assert said == "alice@example.org: accepted: 250 2.0.0 queued as 1\n"
    assert password not in said
    assert sorted(path.name for path in alone.folder.iterdir()) == ["alice.pfx", "distributor.toml", "said", "secret"]


def test_on_a_terminal_everything_is_asked_and_the_password_is_shown_until_enter(alone: Workspace) -> None:
    with screen(alone.folder, alone.environment(), "self", "alice.pfx") as terminal:
        terminal.until("Password of alice.pfx:")
        terminal.press(f"{PASSWORD}\n")
        terminal.until("[y/N]")
        terminal.press("y\n")
        shown = terminal.until("press Enter")
        terminal.press("\n")
        assert terminal.end() == 0
    assert "Send 1 message to alice@example.org from certificates@example.org through 127.0.0.1?" in shown.replace("\r\n  ", " ")
    assert PASSWORD not in shown
    password = next(line.strip() for line in shown.splitlines() if line.count("-") == 4 and " - " not in line)
    assert opens(package(received(alone)), password.replace("\x1b[1m", "").replace("\x1b[0m", ""))


def test_no_sends_nothing(alone: Workspace) -> None:
    with screen(alone.folder, alone.environment(), "self", "alice.pfx", "--password-file", "secret") as terminal:
        terminal.until("[y/N]")
        terminal.press("n\n")
        assert terminal.end() == 1
    assert alone.handler.messages == []


@pytest.mark.parametrize(
    ("words", "missing"),
    [
        ("--password-file secret --yes", "add --stdout"),
        ("--password-file secret --stdout", "add --yes"),
        ("--yes --stdout", "add --password-file FILE"),
        ("--yes --json --password-file secret", "add --stdout"),
    ],
)
def test_without_a_terminal_every_answer_is_a_flag(alone: Workspace, words: str, missing: str) -> None:
    done = alone.run(f"distributor self alice.pfx {words}")
    assert (done.returncode, missing in done.stdout) == (2, True), done.stdout
    assert alone.handler.messages == []


def test_the_password_of_the_file_may_come_from_a_pipe(alone: Workspace) -> None:
    done = alone.run(f"echo {PASSWORD} | distributor self alice.pfx --password-file - --yes --json --stdout")
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout[done.stdout.index("{") :])
    assert next(iter(found)) == "schema"
    (delivery,) = found["deliveries"]
    assert (delivery["address"], delivery["state"]) == ("alice@example.org", "accepted")
    assert opens(package(received(alone)), delivery["password"])


@pytest.mark.parametrize("written", ["", "\ufeff"])
def test_a_piped_password_may_begin_with_a_byte_order_mark(alone: Workspace, written: str) -> None:
    (alone.folder / "secret").write_text(f"{written}{PASSWORD}\r\n", encoding="utf-8")
    assert alone.run("distributor self alice.pfx --password-file - --yes --stdout < secret").returncode == 0


def test_a_closed_standard_input_has_no_password(alone: Workspace) -> None:
    alone.run_script(
        "$ distributor self alice.pfx --password-file - --yes --stdout <&-\n"
        "error: standard input: it is closed\n"
        "hint: pipe the file's password into the command, or name a file that contains it\n? 2\n"
        "$ printf '\\377' | distributor self alice.pfx --password-file - --yes --stdout\n"
        "error: standard input: not UTF-8 text\nhint: save the password as plain text\n? 3\n"
    )


def test_a_password_that_cannot_be_written_is_lost_and_that_is_said(alone: Workspace) -> None:
    alone.run_script(
        f"$ {SEND} >/dev/full\n"
        "alice@example.org: accepted: ...\n"
        "error: standard output: the new password cannot be written, and it is not kept: no space left on device\n"
        "hint: the message cannot be opened; delete it, and run the command again\n? 3\n"
        "$ distributor self alice.pfx --password-file secret --save out.p12 --stdout >/dev/full\n"
        "out.p12: written, for alice@example.org\n"
        "error: ...\n"
        "hint: the file that was written cannot be opened; remove it, and run the command again\n? 3\n"
    )


def test_a_wrong_password_sends_nothing(alone: Workspace) -> None:
    (alone.folder / "secret").write_text("wrong", encoding="utf-8")
    done = alone.run(SEND)
    assert done.returncode == 1
    assert "error: alice.pfx: " in done.stdout
    assert "password" in done.stdout
    assert "roster" not in done.stdout
    assert done.stdout.endswith("nothing was sent\n")


def test_a_file_that_is_no_pfx_or_not_there_is_refused(alone: Workspace) -> None:
    assert alone.run(SEND.replace("alice", "nobody")).returncode == 3
    (alone.folder / "alice.pfx").write_bytes(b"hello")
    done = alone.run(SEND)
    assert (done.returncode, "error: alice.pfx: " in done.stdout) == (1, True), done.stdout


def test_an_expired_certificate_is_an_error_and_one_that_soon_expires_is_not(alone: Workspace) -> None:
    put(alone, "alice", "alice@example.org", days=10, ago=20)
    done = alone.run(SEND)
    assert (done.returncode, "expired" in done.stdout) == (1, True), done.stdout
    assert "distributor plan" not in done.stdout
    put(alone, "alice", "alice@example.org", days=10)
    done = alone.run(SEND)
    assert (done.returncode, "warning: alice.pfx: the certificate expires on" in done.stdout) == (0, True), done.stdout
    assert len(alone.handler.messages) == 1


def test_a_certificate_with_several_addresses_asks_for_one_of_them_and_takes_no_other(alone: Workspace) -> None:
    put(alone, "alice", "alice@example.org", "a.example@example.org")
    done = alone.run(SEND)
    assert done.returncode == 2
    assert "several addresses (alice@example.org, a.example@example.org)" in done.stdout
    assert "hint: add --to ADDRESS" in done.stdout
    done = alone.run(f"{SEND} --to eve@example.org")
    assert done.returncode == 1
    assert "the certificate is for alice@example.org, a.example@example.org, not for eve@example.org" in done.stdout
    assert alone.handler.messages == []
    assert alone.run(f"{SEND} --to A.Example@example.org").returncode == 0
    assert received(alone)["To"] == "a.example@example.org"


def test_a_pair_for_signing_and_encrypting_comes_in_a_message_each_with_its_own_password(alone: Workspace) -> None:
    pair = [
        alone.authority.issue("alice@example.org", name="Alice", usage=[use], starts=timedelta(days=-age))
        for use, age in (("digital_signature", 1), ("key_encipherment", 2))
    ]
    (alone.folder / "alice.pfx").write_bytes(together([identity.pfx(OF_PAIRS) for identity in pair]))
    (alone.folder / "secret").write_text(OF_PAIRS, encoding="utf-8")
    done = alone.run(f"{SEND} 2>/dev/null")
    assert done.returncode == 0, done.stdout
    received(alone, 2)
    messages = [message_from_bytes(each, policy=default) for each in alone.handler.messages]
    packages = [package(message) for message in messages]  # type: ignore[arg-type]  the policy makes it
    passwords = done.stdout.splitlines()
    assert len(set(passwords)) == 2
    for each, password in zip(packages, passwords, strict=True):
        assert "subject=CN = Alice" in opens(each, password)
    names = [next(iter(message.iter_attachments())).get_filename() for message in messages]  # type: ignore[attr-defined]  as above
    assert ["encryption" in names[0], "signing" in names[1]] == [True, True], names  # the oldest first


def test_another_address_than_the_certificate_s_is_refused(alone: Workspace) -> None:
    done = alone.run(f"{SEND} --to eve@example.org")
    assert done.returncode == 1
    assert "alice.pfx: the certificate is for alice@example.org, not for eve@example.org" in done.stdout
    assert alone.handler.messages == []


@pytest.mark.parametrize(("name", "words"), [("refused", "no such mailbox"), ("later", "try again in 10 minutes")])
def test_a_message_that_was_not_accepted_shows_the_server_s_words_and_no_password(alone: Workspace, name: str, words: str) -> None:
    put(alone, "alice", f"{name}@example.org")
    done = alone.run(f"{SEND} --json")
    assert done.returncode == 1, done.stdout
    assert words in done.stdout
    found, _ = json.JSONDecoder().raw_decode(done.stdout[done.stdout.index("{") :])
    assert found["deliveries"][0]["password"] is None
    assert not [line for line in alone.run(f"{SEND} 2>/dev/null").stdout.splitlines() if line]


def test_a_message_that_may_have_been_sent_shows_the_password_and_says_so(alone: Workspace) -> None:
    alone.add_faulty_server("DOT:stored-drop:1")
    done = alone.run(f"{SEND} 2>said")
    assert done.returncode == 1
    assert done.stdout.count("-") == 4
    assert "hint: it may have been sent; look in your mailbox before you try again" in (alone.folder / "said").read_text(encoding="utf-8")


def test_a_server_that_is_not_there_is_exit_4(alone: Workspace) -> None:
    alone.add_closed_port()
    done = alone.run(f"{SEND} 2>said")
    assert (done.returncode, done.stdout) == (4, "")


def test_the_folder_transport_and_another_language(alone: Workspace) -> None:
    (alone.folder / "out").mkdir()
    text = CONFIG.partition("[transport]")[0] + '[transport]\nkind = "folder"\npath = "out"\n'
    (alone.folder / "distributor.toml").write_text(text, encoding="utf-8")
    done = alone.run(f"{SEND} --language fr 2>/dev/null")
    assert done.returncode == 0, done.stdout
    (file,) = (alone.folder / "out").rglob("*.eml")
    message = message_from_bytes(file.read_bytes(), policy=default)
    text = message.get_body(("plain",)).get_content()  # type: ignore[attr-defined]  the policy makes it
    assert "ordinateur qui a envoyé ce message" in " ".join(text.split())
    assert opens(package(message), done.stdout.strip())  # type: ignore[arg-type]  as above


def test_the_package_is_written_to_a_file_without_any_configuration(alone: Workspace) -> None:
    (alone.folder / "distributor.toml").unlink()
    words = "distributor self alice.pfx --password-file secret --stdout --save phone.p12"
    done = alone.run(f"{words} 2>said")
    assert done.returncode == 0, (alone.folder / "said").read_text(encoding="utf-8")
    written = alone.folder / "phone.p12"
    assert written.stat().st_mode & 0o777 == 0o600
    assert "subject=CN = Alice" in opens(written.read_bytes(), done.stdout.strip())
    again = alone.run(words)
    assert (again.returncode, "there is a file with this name" in again.stdout) == (3, True), again.stdout
    assert alone.run(words.replace("phone.p12", "alice.pfx")).returncode == 3
    assert alone.handler.messages == []


def test_the_same_message_as_a_plan_s_but_for_where_the_password_is(alone: Workspace) -> None:
    """Only the tables that it needs are wanted; others are read and checked as ever."""
    (alone.folder / "distributor.toml").write_text(CONFIG + "\n[vault]\nrecipients = []\n", encoding="utf-8")
    assert alone.run(SEND).returncode == 3
    (alone.folder / "distributor.toml").write_text(CONFIG.replace("[sender]", "[sendr]"), encoding="utf-8")
    assert alone.run(SEND).returncode == 3
