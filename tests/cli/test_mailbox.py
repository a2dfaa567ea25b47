"""`track` reads a mailbox by IMAP: people who ask for another copy get one at the address on file, and nobody else gets anything."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.authority import Authority
from tests.doubles.dovecot import PASSWORD, USER, Dovecot, dovecot
from tests.workspace import Workspace

BY_MAIL = '[requests]\nby_mail = true\nauthserv_id = "mx.example.org"\naddress = "certs@example.org"\n'


@pytest.fixture
def server() -> Iterator[Dovecot]:
    with dovecot() as running:
        yield running


@pytest.fixture
def mailbox(sent: Workspace, server: Dovecot) -> Workspace:
    """The workspace with a tracker that reads the server's mailbox."""
    place = f'host = "localhost"\nport = {server.secure_port}\nusername = "{USER}"\n'
    table = f'[[trackers]]\nkind = "imap"\n{place}password = "env:IMAP_PASSWORD"\n'
    add(sent, table + BY_MAIL)
    return sent


def add(workspace: Workspace, text: str) -> None:
    config = workspace.folder / "distributor.toml"
    config.write_text(f"{config.read_text(encoding='utf-8')}\n{text}", encoding="utf-8")


def run(workspace: Workspace, server: Dovecot, command: str, **environment: str) -> Any:  # noqa: ANN401  JSON
    done = workspace.run(f"distributor {command} 2>talk", SSL_CERT_FILE=str(server.ca), IMAP_PASSWORD=PASSWORD, **environment)
    talk = (workspace.folder / "talk").read_text(encoding="utf-8")
    assert PASSWORD not in done.stdout + talk
    assert done.returncode in {0, 1}, talk
    return json.loads(done.stdout) if command.endswith("--json") else done.stdout + talk


def ask(number: int, sender: str, message_id: str = "", *, dmarc: str = "pass", more: str = "") -> bytes:
    lines = [
        f"Authentication-Results: mx.example.org; dmarc={dmarc} header.from=example.org",
        *([more] if more else []),
        f"From: {sender}",
        f"To: {USER}",
        "Subject: Re: your certificate",
        f"Date: {format_datetime(datetime.now(UTC))}",
        f"Message-ID: <{number}@phone.example>",
        *([f"In-Reply-To: {message_id}"] if message_id else []),
        "",
        "Send again",
        "",
    ]
    return "\r\n".join(lines).encode()


def message_id(workspace: Workspace, address: str) -> str:
    return next(
        str(message["Message-ID"]) for message in map(message_from_bytes, workspace.handler.messages) if address in str(message["To"])
    )


def test_a_reply_becomes_a_request_and_once_approved_a_new_package_for_the_address_on_file(mailbox: Workspace, server: Dovecot) -> None:
    alice, bob = message_id(mailbox, "alice@example.org"), message_id(mailbox, "bob@example.org")
    server.add(
        ask(1, "Alice <ALICE@example.org>", alice),
        ask(2, "bob@example.org", bob, dmarc="fail"),
        ask(3, "bob@example.org", bob, more="Auto-Submitted: auto-replied"),
        ask(4, "eve@example.org", bob),
        b"Subject: lunch?\r\n\r\n...\r\n",
    )
    found = run(mailbox, server, "track --json")
    assert (found["read"], found["unmatched"], found["moved"]) == (5, 2, [])
    (request,) = found["requests"]
    assert (request["address"].lower(), request["state"]) == ("alice@example.org", "open")
    assert [(left["address"], left["reason"]) for left in found["left"]] == [
        ("bob@example.org", "not authenticated: dmarc=fail"),
        ("eve@example.org", "nobody with this address was sent this message"),
    ]
    assert [flags - {"\\Recent"} for flags in server.flags()] == [{"$Distributor"}, set(), set(), set(), set()]
    assert run(mailbox, server, "track --json") == {**found, "read": 0, "unmatched": 0, "requests": [], "left": []}
    listed = run(mailbox, server, "requests --json")["requests"]
    assert [(one["id"], one["state"], one["reason"]) for one in listed] == [(request["id"], "open", "by mail <1@phone.example>")]

    before = len(mailbox.handler.messages)
    run(mailbox, server, f"requests approve {request['id']}")
    run(mailbox, server, "send --yes")
    assert [message_from_bytes(raw)["To"] for raw in mailbox.handler.messages[before:]] == ["Alice Example <alice@example.org>"]
    assert run(mailbox, server, "audit verify")


def test_what_track_prints(mailbox: Workspace, server: Dovecot) -> None:
    server.add(ask(1, "alice@example.org", message_id(mailbox, "alice@example.org")), ask(2, "bob@example.org", dmarc="none"))
    printed = run(mailbox, server, "track").splitlines()
    assert printed[0] == "2 mails read, 1 request recorded, 1 unmatched"
    assert printed[1].startswith("alice@example.org asks for another copy: request r-")
    assert printed[1].endswith(" is open")
    assert printed[2:] == ["left alone: bob@example.org <2@phone.example>: not authenticated: dmarc=none", "next: distributor requests"]
    assert run(mailbox, server, "track") == "nothing found, no status changed\n"


def test_the_workspaces_own_words_replace_the_packaged_ones(mailbox: Workspace, server: Dovecot) -> None:
    words = mailbox.folder / "templates" / "request" / "en" / "phrases.txt"
    words.parent.mkdir(parents=True)
    words.write_text("New phone\n", encoding="utf-8")
    server.add(
        ask(1, "alice@example.org", message_id(mailbox, "alice@example.org")),
        ask(2, "bob@example.org", message_id(mailbox, "bob@example.org")).replace(b"Send again", b"NEW PHONE!"),
    )
    assert [request["address"] for request in run(mailbox, server, "track --json")["requests"]] == ["bob@example.org"]


def test_a_mailbox_that_cannot_be_read_is_exit_4_and_doctor_says_why(mailbox: Workspace, server: Dovecot) -> None:
    doctor = run(mailbox, server, "doctor --json")
    assert [check["message"] for check in doctor["checks"] if check["area"] == "tracker"] == [f"trackers[0] (imap): {USER} can be read"]
    done = mailbox.run("distributor track", SSL_CERT_FILE=str(server.ca), IMAP_PASSWORD="not-the-password")
    assert done.returncode == 4
    assert done.stdout.splitlines()[-2].startswith(f"error: localhost:{server.secure_port}: sign-in was refused")
    assert done.stdout.splitlines()[-1] == "hint: check `username` and `password`"
    done = mailbox.run("distributor doctor", SSL_CERT_FILE=str(server.ca), IMAP_PASSWORD="not-the-password")
    assert (done.returncode, "not-the-password" in done.stdout) == (1, False)
    assert "sign-in was refused" in done.stdout


def test_requests_by_mail_need_the_name_of_the_host_that_authenticates(tmp_path: Path, authority: Authority) -> None:
    workspace = Workspace(tmp_path, authority)
    workspace.run_script("$ distributor init >/dev/null 2>&1\n")
    add(workspace, "[requests]\nby_mail = true\n")
    done = workspace.run("distributor status")
    assert done.returncode == 3
    assert "requests.authserv_id: missing" in done.stdout


def test_without_the_library_the_extra_is_named(mailbox: Workspace, server: Dovecot) -> None:
    (mailbox.folder / "imap_tools.py").write_text("raise ModuleNotFoundError('imap_tools')\n", encoding="utf-8")
    places = f"{mailbox.folder}{os.pathsep}{mailbox.environment()['PYTHONPATH']}"
    command = f"{sys.executable} -m distributor track"
    done = mailbox.run(command, SSL_CERT_FILE=str(server.ca), IMAP_PASSWORD=PASSWORD, PYTHONPATH=places)
    assert done.returncode == 3
    assert done.stdout.splitlines()[-2:] == [
        "error: IMAP needs imap-tools, which is not installed",
        "hint: pip install 'distributor[imap]'",
    ]
