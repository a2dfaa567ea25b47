"""`save_copy = false` and drafts that nobody will send, on the command line: what earlier runs left goes, and one line says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from distributor.model.attempts import AttemptResult, Claim, DraftRef, RecordIntent
from distributor.model.delivery import DeliveryFilter
from distributor.model.states import State
from distributor.workers import process
from tests.cli import test_cloud as plain
from tests.cli.test_cloud import HOUR_AGO, SENDER, Run, answer
from tests.doubles.graphd import Cloud
from tests.doubles.graphd.caller import Caller, connected
from tests.workflows import outbox
from tests.workspace import Workspace

pytestmark = pytest.mark.slow(reason="whole commands, several in each; what they rest on is tested beside the ledger and the workflows")

client, cloud, run, workspace = plain.client, plain.cloud, plain.run, plain.workspace
IMMUTABLE = 'IdType="ImmutableId"'
REMOVED = f"{SENDER}: removed 1 copy of earlier runs from Sent Items"


@pytest.fixture
def sparing(workspace: Workspace) -> Workspace:
    """Its configuration wants no copies."""
    config = workspace.folder / "distributor.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace('rate = "6000/min"', 'rate = "6000/min"\nsave_copy = false'), encoding="utf-8")
    return workspace


def in_mailbox(cloud: Cloud, act: Callable[[Caller], object]) -> object:
    app = cloud.app(roles=["Mail.ReadWrite", "Mail.Send"])
    with connected(cloud, cloud.token(app)) as http:
        return act(Caller(cloud, app, SENDER, http))


def earlier(workspace: Workspace, cloud: Cloud, state: State, response: str, *, sends: bool) -> Claim:
    """A message that a run of an hour ago armed as a draft, and what it wrote of it."""
    ledger = outbox.new_ledger(workspace.folder / "distributor.db", lambda: HOUR_AGO)
    outbox.queue(ledger, 1)
    owner = replace(process.current_process(), started=1)  # a process of this machine that is gone
    (claim,) = ledger.claim(owner, 1, timedelta(minutes=1), DeliveryFilter())
    draft = str(in_mailbox(cloud, lambda caller: caller.create(claim.message.message, Prefer=IMMUTABLE).json()["id"]))
    assert ledger.write([RecordIntent(claim, timedelta(minutes=1), DraftRef(draft, claim.message.message_id))], owner) == [True]
    if sends:
        in_mailbox(cloud, lambda caller: caller.send(draft))
    assert ledger.write([AttemptResult(claim, state, response)], owner) == [True]
    ledger.close()
    return claim


def test_a_send_with_nothing_to_send_removes_the_copies_that_a_killed_one_left(sparing: Workspace, run: Run, cloud: Cloud) -> None:
    earlier(sparing, cloud, State.ACCEPTED, "202 Accepted", sends=True)
    result = run("distributor send --yes")
    assert (result.returncode, REMOVED in result.stdout) == (0, True)
    assert cloud.messages(SENDER, "sentitems") == []
    assert REMOVED not in run("distributor send --yes").stdout
    history = answer(run("distributor history p1@example.org --json"))["events"]
    assert history[-1]["event"] == "copy-removed"
    assert run("distributor audit verify").returncode == 0


def test_track_removes_the_copy_of_a_message_that_it_settles(sparing: Workspace, run: Run, cloud: Cloud) -> None:
    earlier(sparing, cloud, State.AMBIGUOUS, "504 Gateway Timeout", sends=True)
    result = run("distributor track")
    assert (result.returncode, "1 status changed" in result.stdout, REMOVED in result.stdout) == (0, True, True)
    assert cloud.messages(SENDER, "sentitems") == []


def test_resolve_removes_the_copy_of_a_message_that_a_person_settles(sparing: Workspace, run: Run, cloud: Cloud) -> None:
    claim = earlier(sparing, cloud, State.AMBIGUOUS, "504 Gateway Timeout", sends=True)
    result = run(f'distributor resolve {claim.id} --accepted --reason "the mailbox has it"')
    assert (result.returncode, REMOVED in result.stdout) == (0, True)
    assert cloud.messages(SENDER, "sentitems") == []


def test_copies_that_are_wanted_stay(workspace: Workspace, run: Run, cloud: Cloud) -> None:
    earlier(workspace, cloud, State.ACCEPTED, "202 Accepted", sends=True)
    assert run("distributor send --yes").returncode == run("distributor track").returncode == 0
    assert len(cloud.messages(SENDER, "sentitems")) == 1


def test_track_leaves_a_mailbox_alone_that_a_send_drives(sparing: Workspace, run: Run, cloud: Cloud) -> None:
    earlier(sparing, cloud, State.ACCEPTED, "202 Accepted", sends=True)
    ledger = outbox.new_ledger(sparing.folder / "distributor.db")
    assert ledger.lock_mailbox("")
    assert "the running `distributor send` cleans up the mailbox" in run("distributor track").stdout
    assert len(cloud.messages(SENDER, "sentitems")) == 1
    ledger.close()
    assert REMOVED in run("distributor track").stdout


def test_a_service_that_cannot_be_asked_is_told_and_no_more(sparing: Workspace, cloud: Cloud) -> None:
    earlier(sparing, cloud, State.ACCEPTED, "202 Accepted", sends=True)
    result = sparing.run("distributor resolve", **cloud.environment, APP_SECRET="not-the-secret")
    assert result.returncode == 0
    assert "warning: " in result.stdout
    assert "the copy of 1 message stays in Sent Items" in result.stdout


def test_a_withdrawal_needs_no_network_and_the_next_track_removes_the_draft(workspace: Workspace, run: Run, cloud: Cloud) -> None:
    claim = earlier(workspace, cloud, State.QUEUED, "403 ErrorMessageSubmissionBlocked", sends=False)
    asked = len(cloud.requests())
    assert workspace.run(f'distributor withdraw {claim.id} --reason "left the company"').returncode == 0
    assert (len(cloud.requests()), len(cloud.messages(SENDER, "drafts"))) == (asked, 1)
    result = run("distributor track")
    assert f"{SENDER}: removed 1 draft of messages that were withdrawn, rejected or replaced" in result.stdout
    assert cloud.messages(SENDER, "drafts") == []
    assert "draft" not in run("distributor send --yes").stdout
