"""The kill matrix over mailboxes that Exchange opens (RBAC for Applications), without copies: no key stays there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from distributor.model.mailbox_cleanup import CleanupEvent
from distributor.model.states import State
from tests.authority import Authority
from tests.doubles.graphd import Cloud, graphd
from tests.real.matrix import KILLED, MESSAGES, Cell, Crashing
from tests.real.test_kill_graph import DRAFT, MAILBOX, MANY, POST, STEPS, settled
from tests.workflows.outbox import new_ledger

CLEARING = ["other:before", "other:after"]  # a removal


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with graphd(tmp_path_factory.mktemp("cloud")) as running:
        running.mailbox(MAILBOX)
        yield running
        assert running.violations() == []
        assert {record["operation"] for record in running.stored()} == {POST}  # never without a draft


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, authority: Authority, server: Crashing, cloud: Cloud) -> Cell:
    folder = tmp_path_factory.mktemp("matrix")
    new_ledger(folder / "empty.db").close()
    client = cloud.app(secrets={"s3cret": None}, exchange_roles={MAILBOX: ["Mail.Send", "Mail.ReadWrite"]})
    names = {"mailbox": MAILBOX, "tenant": cloud.tenant, "client_id": client, "secret": "s3cret", "login": cloud.login}
    transport = {"graph": {**names, "graph": cloud.graph, "save_copy": False}, "environment": dict(cloud.environment)}
    return Cell(server, cloud, authority, folder, folder / "empty.db", transport=transport)


def lying(cloud: Cloud, cell: Cell) -> list[str]:
    """The folders in which messages to this cell's people still lie."""
    return [folder for folder in ("sentitems", "drafts", "deleteditems") for one in cloud.messages(MAILBOX, folder) if cell.tag in str(one)]


@pytest.mark.parametrize("step", [*(pytest.param(step, marks=MANY) for step in STEPS), *CLEARING])
def test_a_sender_that_was_killed_leaves_no_copy_for_good(world: Cell, cloud: Cloud, step: str) -> None:
    cell = world.fresh()
    assert cell.run("plan") == [0]
    assert cell.run("send", step=step, hit=1 if step.startswith("claim") else 3) == [KILLED]
    assert cell.broken_at_any_time() == []
    cell.finish()
    cell.run("send")  # with nothing to send
    settled(cell)
    assert lying(cloud, cell) == []


def test_a_sender_that_was_killed_after_most_messages_has_its_copies_removed_by_the_next(world: Cell, cloud: Cloud) -> None:
    cell = world.fresh(count=12)
    assert cell.run("plan") == [0]
    assert cell.run("send", step="settle:after", hit=9) == [KILLED]
    assert Counter(lying(cloud, cell))["sentitems"] >= 9
    assert cell.run("send", early=True) == [0]
    assert lying(cloud, cell) == []
    with cell.opened() as ledger:
        assert ledger.copies() == []
        marks = Counter(record.event.event for record in ledger.records() if record.event.event in set(CleanupEvent))
    assert marks == {CleanupEvent.COPY_REMOVED: 12}
    assert Counter(delivery.state for delivery in cell.deliveries()) == {State.ACCEPTED: 12}


@pytest.mark.parametrize("operation", [DRAFT, POST])
def test_a_403_that_passes_loses_and_doubles_nobody(world: Cell, cloud: Cloud, operation: str) -> None:
    cell = world.fresh()
    assert cell.run("plan") == [0]
    cloud.fault(operation, "status", skip=2, status=403, code="ErrorAccessDenied")
    assert cell.run("send") == [4]
    cell.finish()
    settled(cell)
    assert lying(cloud, cell) == []
    assert MESSAGES > 2
