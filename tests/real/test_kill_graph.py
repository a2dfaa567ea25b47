"""The kill matrix over Microsoft Graph: SIGKILL at every step of a message, every fault of the service, and at the end no doubt is left."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest

from distributor.model.states import State
from tests.authority import Authority
from tests.doubles.graphd import Cloud, graphd
from tests.real.matrix import KILLED, MESSAGES, Cell, Crashing
from tests.workflows.outbox import new_ledger

MAILBOX = "certificates@example.org"
STEPS = ["claim:after", "draft:before", "draft:after", "arm:before", "arm:inside", "arm:after", "post:before", "post:after"]
STEPS += ["settle:before", "settle:inside", "settle:after"]
MANY = pytest.mark.slow(reason="half a hundred cells; the others are a row of them")
ALWAYS = [
    (3, step) for step in ("claim:after", "draft:after", "arm:inside", "post:before", "post:after")
]  # where a double or a loss would begin
DRAFT, POST = "user.createMessage", "message.send"
FAULTS: dict[str, tuple[str, str, dict[str, object]]] = {
    "a draft is made and nobody says so": (DRAFT, "504-after", {}),
    "no draft is made": (DRAFT, "504-before", {}),
    "the line is cut after a draft": (DRAFT, "reset-after", {}),
    "the line is cut before a draft": (DRAFT, "reset-before", {}),
    "too many requests for drafts": (DRAFT, "429", {"retry_after": 1}),
    "half an answer about a draft": (DRAFT, "truncated", {}),
    "the message left, then 504": (POST, "504-after", {}),
    "504 before the message left": (POST, "504-before", {}),
    "the line is cut after the message left": (POST, "reset-after", {}),
    "the line is cut before the message left": (POST, "reset-before", {}),
    "too many requests to send": (POST, "429", {"retry_after": 1}),
    "a proxy's page instead of an answer": (POST, "html", {}),
    "a proxy's page after the message left": (POST, "html", {"after": True}),
    "nonsense after the message left": (POST, "garbage", {"after": True}),
    "accepted, and asked to try again": (POST, "202-retry-after", {}),
    "the token is refused once": (POST, "401", {}),
}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with graphd(tmp_path_factory.mktemp("cloud")) as running:
        running.mailbox(MAILBOX)
        yield running
        assert running.violations() == []


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, authority: Authority, server: Crashing, cloud: Cloud) -> Cell:
    folder = tmp_path_factory.mktemp("matrix")
    new_ledger(folder / "empty.db").close()
    client = cloud.app(secrets={"s3cret": None}, roles=["Mail.Send", "Mail.ReadWrite"])
    names = {
        "mailbox": MAILBOX,
        "tenant": cloud.tenant,
        "client_id": client,
        "secret": "s3cret",
        "login": cloud.login,
        "graph": cloud.graph,
    }
    transport = {"graph": names, "environment": dict(cloud.environment)}
    return Cell(server, cloud, authority, folder, folder / "empty.db", transport=transport)


@pytest.fixture(scope="module", autouse=True)
def nothing_doubled(world: Cell, cloud: Cloud) -> Iterator[None]:
    """Whatever left after a case was over is counted too; mutants double, and are looked at by themselves."""
    yield
    del world
    copies = Counter(record["to"] for record in cloud.stored())
    assert [address for address, number in copies.items() if number > 1 and address not in DOUBLED] == []


DOUBLED: set[str] = set()  # by mutants


def settled(cell: Cell) -> None:
    assert cell.broken_at_the_end() == []
    assert Counter(delivery.state for delivery in cell.deliveries()) == {State.ACCEPTED: MESSAGES}
    assert Counter(record["to"] for record in cell.stored()) == {delivery.address: 1 for delivery in cell.deliveries()}


@pytest.mark.parametrize(
    ("step", "hit"), [pytest.param(s, h, marks=[] if (h, s) in ALWAYS else [MANY]) for s in STEPS for h in (1, 3, MESSAGES)]
)
def test_a_sender_that_was_killed_doubles_nothing_and_every_doubt_is_settled(world: Cell, step: str, hit: int) -> None:
    cell = world.fresh()
    assert cell.run("plan") == [0]
    assert cell.run("send", step=step, hit=1 if step.startswith("claim") else hit) == [KILLED]
    assert cell.broken_at_any_time() == []
    assert cell.broken_after_recovery() == []
    cell.finish()
    cell.finish()
    settled(cell)


@MANY
@pytest.mark.parametrize("step", STEPS)
def test_one_of_three_senders_that_was_killed_doubles_nothing(world: Cell, step: str) -> None:
    cell = world.fresh()
    assert cell.run("plan") == [0]
    cell.run("send", step=step, workers=3, connections=2)
    assert cell.broken_at_any_time() == []
    cell.finish(workers=3, connections=2)
    cell.finish()
    settled(cell)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_service_that_behaves_badly_makes_no_double_and_loses_nobody(world: Cell, cloud: Cloud, fault: str) -> None:
    operation, action, options = FAULTS[fault]
    cell = world.fresh()
    assert cell.run("plan") == [0]
    cloud.fault(operation, action, skip=1, **options)
    cell.finish()
    cell.finish()
    assert cloud.faults() == []
    settled(cell)


@pytest.mark.parametrize("then", [None, "504-after", "504-before"])
def test_a_service_that_gives_messages_another_message_id_makes_no_double(world: Cell, cloud: Cloud, then: str | None) -> None:
    cell = world.fresh()
    assert cell.run("plan") == [0]
    cloud.fault(DRAFT, "rewrite-message-id", skip=1)
    if then:
        cloud.fault(POST, then, skip=1)
    cell.finish()
    cell.finish()
    states = {delivery.address: delivery.message_id for delivery in cell.deliveries() if delivery.state is State.ACCEPTED}
    assert states == {record["to"]: record["message_id"] for record in cell.stored()}
    assert len(states) == MESSAGES
    assert len(cell.stored()) == MESSAGES


def drafts(cloud: Cloud, cell: Cell) -> int:
    """Of this cell's people, how many messages still lie in Drafts."""
    return sum(f".{cell.tag}@" in str(message) for message in cloud.messages(MAILBOX, "drafts"))


@pytest.mark.slow(reason="each mutant is a whole walk through the matrix")
@pytest.mark.parametrize("mutant", [None, "arm_after_the_post", "no_answer_means_unsent", "nobody_looks_for_drafts"])
def test_the_matrix_sees_what_is_wrong(world: Cell, cloud: Cloud, mutant: str | None) -> None:
    cell = world.fresh(mutant)
    assert cell.run("plan") == [0]
    if mutant in {None, "arm_after_the_post"}:
        cell.run("send", step="post:after", hit=2)
    else:
        cloud.fault(DRAFT, "504-after", skip=1)
        cloud.fault(POST, "504-after", skip=2)
    wrong = cell.broken_at_any_time()
    cell.finish()
    cell.finish()
    cloud.clear_faults()
    DOUBLED.update(record["to"] for record in cell.stored() if mutant)
    wrong += [*cell.broken_at_the_end(), *(["a draft is left over"] if drafts(cloud, cell) else [])]
    assert bool(wrong) is (mutant is not None), wrong
