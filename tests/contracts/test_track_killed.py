"""A `track` that is killed at any step between a mail and its position counts the mail once, and loses none (Dovecot, real processes)."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributor.model.attempts import AttemptResult, RecordIntent
from distributor.model.delivery import DeliveryFilter
from distributor.model.ports import Ledger
from distributor.model.states import State
from tests.doubles.dovecot import Dovecot, dovecot
from tests.workflows import outbox
from tests.workflows.test_notices import LEASE

USER = "certs@example.org"
CHILD = """
import asyncio, json, os, signal, sys
from pathlib import Path
from distributor.adapters.trackers import imap
from distributor.ledger.repository import SqlLedger
from distributor.model.notices import Action, DeliveryReport, RecipientReport, Reference
from distributor.model.requests import RequestLimits
from distributor.model.secret import Secret
from distributor.workflows.mailboxes import MailboxContext, MailPolicy, read_mailboxes
from tests.doubles.dovecot import PASSWORD
from tests.workflows import outbox

path, port, user, step = sys.argv[1:]

class Pool:
    def map(self, jobs):
        for raw in jobs:
            message_id = raw.decode().split("About: ")[1].split()[0]
            yield raw, DeliveryReport(Reference((message_id,)), (RecipientReport("", Action.FAILED, "5.1.1", "unknown"),), "", True)

def die(owner, name, when):
    real = getattr(owner, name)
    def around(*args):
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*args)
        os.kill(os.getpid(), signal.SIGKILL)
        return result
    async def awaited(*args):
        if when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        await real(*args)
        os.kill(os.getpid(), signal.SIGKILL)
    setattr(owner, name, awaited if name == "mark" else around)

if step:
    name, when = step.split(":")
    die({"mark": imap.ImapReader}.get(name, SqlLedger), name, when)
ledger = outbox.new_ledger(Path(path))
reader = imap.open(imap.Settings("localhost", user, int(port), password=Secret(PASSWORD), move_to="Done", timeout=20.0), "trackers[0]")
policy = MailPolicy(by_mail=False, automatic=False, limits=RequestLimits(3, 3))
report = asyncio.run(read_mailboxes(MailboxContext(ledger, Pool(), policy, asyncio.to_thread), [reader]))
print(json.dumps([report.read, len(report.moved), len(report.noted), report.unmatched, [str(error) for error in report.errors]]))
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Dovecot]:
    with dovecot() as running:
        yield running


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Three messages that were accepted."""
    found = outbox.new_ledger(tmp_path / "distributor.db")
    outbox.queue(found, 3)
    owner = outbox.me()
    for claim in found.claim(owner, 3, LEASE, DeliveryFilter()):
        found.write([RecordIntent(claim, LEASE)], owner)
        found.write([AttemptResult(claim, State.ACCEPTED, "250 ok")], owner)
    yield found
    assert found.verify() == []
    found.close()


@pytest.mark.parametrize(
    "step",
    [
        "record_notice:before",
        "record_notice:after",
        "mark:before",
        "mark:after",
        "write_mailbox_position:before",
        "write_mailbox_position:after",
    ],
)
def test_a_killed_track_counts_each_mail_once(
    ledger: Ledger, server: Dovecot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(server.ca))
    user = f"{step.replace(':', '-')}-{USER}"
    server.create("Done", user)
    ids = [one.message_id for one in ledger.deliveries(DeliveryFilter())]
    server.add(*(f"About: {message_id}\r\n\r\n".encode() for message_id in ids), user=user)

    def track(at: str = "") -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", CHILD, str(tmp_path / "distributor.db"), str(server.secure_port), user, at]
        return subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=120, check=False)

    assert track(step).returncode == -signal.SIGKILL
    again = track()
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout)[2:] == [0, 0, []]
    assert ledger.counts(DeliveryFilter()) == {State.BOUNCED: 3}
    for number in (1, 2, 3):
        assert [event.event for event in ledger.history(f"p{number}@example.org")].count("bounced") == 1
    assert len(server.flags("Done", user)) == 3
    before = ledger.position()
    assert json.loads(track().stdout) == [0, 0, 0, 0, []]
    assert ledger.position() == before
