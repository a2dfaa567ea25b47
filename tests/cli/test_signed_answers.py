"""A person answers the message with a signed mail: `track` records the certificate as installed, with the proof; others it names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from tests.authority import Identity
from tests.doubles.dovecot import PASSWORD, USER, Dovecot, dovecot
from tests.smime import detached, header, openssl
from tests.workspace import PASSWORD as OF_THE_FILE
from tests.workspace import Workspace


@pytest.fixture
def server() -> Iterator[Dovecot]:
    with dovecot() as running:
        yield running


@pytest.fixture
def mailbox(planned: Workspace, server: Dovecot) -> Workspace:
    """Messages that were sent while a tracker read the server's mailbox."""
    config = planned.folder / "distributor.toml"
    place = f'host = "localhost"\nport = {server.secure_port}\nusername = "{USER}"\npassword = "env:IMAP_PASSWORD"\n'
    config.write_text(f'{config.read_text(encoding="utf-8")}\n[[trackers]]\nkind = "imap"\n{place}', encoding="utf-8")
    run(planned, server, "send --yes")
    return planned


def run(workspace: Workspace, server: Dovecot, command: str) -> str:
    done = workspace.run(f"distributor {command}", SSL_CERT_FILE=str(server.ca), IMAP_PASSWORD=PASSWORD)
    assert done.returncode == 0, done.stdout
    return done.stdout


def as_json(workspace: Workspace, server: Dovecot, command: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(workspace, server, f"{command} --json"))
    return found


def identity(workspace: Workspace, name: str) -> Identity:
    """What the person installs."""
    opened = load_pkcs12((Path(workspace.folder) / "certificates" / f"{name}.pfx").read_bytes(), OF_THE_FILE.encode())
    assert opened.cert is not None
    return Identity(opened.key, opened.cert.certificate, ())  # type: ignore[arg-type]  # any kind of key


def reply(workspace: Workspace, name: str, signer: str, number: int = 1) -> bytes:
    """An answer that quotes the message which this person got, signed by somebody."""
    sent = next(
        message
        for message in (message_from_bytes(raw, policy=policy.default) for raw in workspace.handler.messages)
        if name in str(message["To"])
    )
    assert isinstance(sent, EmailMessage)
    body = sent.get_body(("plain",))
    assert body is not None
    answer = EmailMessage()
    answer.set_content("\n".join(["It works.", "", *(f"> {line}" for line in body.get_content().splitlines())]) + "\n")
    content = answer.as_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    head = header(f"{name}@example.org", Message_ID=f"<{number}@phone>", In_Reply_To=str(sent["Message-ID"]))
    return detached(content, openssl(identity(workspace, signer), content), head)


def test_a_signed_answer_makes_the_delivery_installed_and_the_proof_is_in_the_history(mailbox: Workspace, server: Dovecot) -> None:
    server.add(reply(mailbox, "alice", "alice"), reply(mailbox, "bob", "alice", 2), reply(mailbox, "alice", "alice", 3)[:-200])
    found = as_json(mailbox, server, "track")
    (moved,) = found["moved"]
    assert (moved["address"], moved["from"], moved["to"]) == ("alice@example.org", "accepted", "installed")
    assert moved["said"] == "confirmed by a signed answer"
    forged, cut = found["left"]
    assert (forged["message_id"], forged["address"]) == ("<2@phone>", "bob@example.org")
    assert forged["reason"].startswith("signed with another certificate than the one of d-")
    assert cut["reason"].startswith("the signature is not valid: ")
    assert [flags - {"\\Recent"} for flags in server.flags()] == [{"$Distributor"}, set(), set()]

    assert "1 installed" in run(mailbox, server, "status")
    assert "confirmed by a signed answer" in run(mailbox, server, "status alice@example.org")
    history = run(mailbox, server, "history alice@example.org").splitlines()
    assert "confirmed by a signed answer  kind=signed-answer  proved=True  signed_at=" in history[-1]
    assert len(history[-1]) < 250
    (last,) = (e for e in as_json(mailbox, server, "history alice@example.org")["events"] if e["event"] == "installed")
    assert {"cms", "certificate_sha256", "signature_sha256", "mail_sha256", "signed_at", "answer"} <= last["evidence"].keys()
    assert run(mailbox, server, "audit verify")
    assert as_json(mailbox, server, "track")["moved"] == []


def test_what_track_prints(mailbox: Workspace, server: Dovecot) -> None:
    server.add(reply(mailbox, "alice", "alice"))
    printed = run(mailbox, server, "track")
    assert "alice@example.org  accepted  installed  confirmed by a signed answer" in printed
    assert "1 mail read" in printed
