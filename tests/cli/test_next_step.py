"""`distributor status` ends with the step that brings the most forward, or with none where nothing is open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest

from distributor import bootstrap
from distributor.cli import app
from distributor.model.attempts import TrackingEvent
from distributor.model.delivery import DeliveryFilter
from distributor.model.ports import Ledger
from distributor.model.states import State
from distributor.workers import process
from tests.workspace import Workspace

pytestmark = pytest.mark.slow(reason="whole commands, several in each; what they rest on is tested beside the ledger and the workflows")

REVEAL = "next: distributor password reveal ADDRESS --reason TEXT"
RESEND = "next: distributor history alice@example.org, then distributor resend alice@example.org --reason TEXT"


@contextmanager
def ledger(workspace: Workspace) -> Iterator[Ledger]:
    with bootstrap.open_for_writing(bootstrap.settings(workspace.folder / "distributor.toml")) as found:
        yield found


def last(workspace: Workspace, scope: str = "") -> str:
    """The last line that `status` says to a person; empty where it says none."""
    lines = workspace.run(f"distributor status {scope} 2>&1 >/dev/null").stdout.splitlines()
    return "\n".join(line for line in lines if not line.startswith(("warning: ", "hint: ")))  # of a clock that was ahead


def reveal(workspace: Workspace, *people: str) -> None:
    for person in people:
        assert workspace.run(f'distributor password reveal {person}@example.org --reason "called" --stdout').returncode == 0


def bounce(workspace: Workspace, person: str) -> None:
    with ledger(workspace) as found:
        ids = [delivery.id for delivery in found.deliveries(DeliveryFilter(addresses=frozenset({f"{person}@example.org"})))]
        assert found.observe([TrackingEvent(ids[-1], State.BOUNCED, "550 gone", {"kind": "notice"})]) == [State.ACCEPTED]


def test_a_password_is_offered_as_long_as_one_is_ready(sent: Workspace) -> None:
    reveal(sent, "alice")
    assert last(sent) == REVEAL
    assert last(sent, "alice@example.org") == ""
    reveal(sent, "bob")
    assert last(sent) == ""


def test_what_a_crashed_sender_held_is_sent_on(planned: Workspace) -> None:
    planned.run_script("$ distributor send --dry-run look >/dev/null 2>&1\n")
    with ledger(planned) as found:
        assert len(found.claim(process.current_process(), 10, timedelta(0), DeliveryFilter())) == 2
    assert planned.run("distributor status --json").stdout.count('"state": "claimed"') == 2
    assert last(planned) == "next: distributor send"


def test_a_bounced_message_is_sent_anew_once_and_then_its_successor_counts(sent: Workspace) -> None:
    reveal(sent, "alice", "bob")
    bounce(sent, "alice")
    assert last(sent) == RESEND
    sent.run_script('$ distributor resend alice@example.org --reason "bounced" --yes >/dev/null 2>&1\n')
    assert last(sent) == REVEAL
    assert last(sent, "--state bounced") == ""
    reveal(sent, "alice")
    assert last(sent) == ""


def test_a_bounced_successor_is_open_again(sent: Workspace) -> None:
    bounce(sent, "alice")
    sent.run_script('$ distributor resend alice@example.org --reason "bounced" --yes >/dev/null 2>&1\n')
    bounce(sent, "alice")
    assert last(sent, "--state bounced") == RESEND


def test_an_expired_password_is_followed_by_a_new_one(sent: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    reveal(sent, "bob")
    later = bootstrap.now() + timedelta(days=15)
    monkeypatch.setattr(bootstrap, "now", lambda: later)
    assert app.run(["--config", str(sent.folder / "distributor.toml"), "resolve"]) == 0
    assert "expired" in sent.run("distributor status alice@example.org").stdout
    assert last(sent) == "next: distributor resend alice@example.org --reason TEXT"
    assert last(sent, "bob@example.org") == ""


def test_an_address_that_is_empty_is_not_everybody(sent: Workspace) -> None:
    done = sent.run("distributor status ''")
    assert (done.returncode, done.stdout.splitlines()[0]) == (2, "error: the address is empty")
