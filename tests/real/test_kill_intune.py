"""The kill matrix over imports into Intune: SIGKILL at every step, every fault of the service; none is imported twice, none is lost."""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from distributor.model.states import State
from tests import intune
from tests.authority import Authority
from tests.doubles.graphd import Cloud, graphd
from tests.real.matrix import KILLED, MESSAGES, Cell, Crashing
from tests.workflows.outbox import new_ledger

STEPS = ["claim:after", "look:before", "look:after", "arm:before", "arm:inside", "arm:after", "record:before", "record:after"]
STEPS += ["settle:before", "settle:inside", "settle:after", "build:after", "store:inside"]
MANY = pytest.mark.slow(reason="three dozen cells; the others are a row of them")
ALWAYS = {"arm:after", "record:after", "settle:inside"}
CREATE, GET = "userPfxCertificate.create", "userPfxCertificate.get"
FAULTS: dict[str, tuple[str, str, dict[str, object]]] = {
    "written, then 504": (CREATE, "504-after", {}),
    "504 before it was written": (CREATE, "504-before", {}),
    "the line is cut after it was written": (CREATE, "reset-after", {}),
    "the line is cut before it was written": (CREATE, "reset-before", {}),
    "too many requests": (CREATE, "429", {"retry_after": 1}),
    "busy": (CREATE, "status", {"status": 503, "code": "ServiceUnavailable", "retry_after": 1}),
    "half an answer": (CREATE, "truncated", {}),
    "nonsense after it was written": (CREATE, "garbage", {"after": True}),
    "there already, it says": (CREATE, "status", {"status": 409, "code": "Conflict", "message": "An error has occurred", "after": True}),
    "the token is refused once": (CREATE, "401", {}),
    "reading fails once": (GET, "reset-before", {}),
    "it cannot be seen at once": (GET, "status", {"status": 404, "code": "ResourceNotFound", "message": "Resource not found"}),
}


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with graphd(tmp_path_factory.mktemp("cloud")) as running:
        intune.prepare(running)
        yield running
        assert running.violations() == []
        assert running.refusals() == []


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, authority: Authority, server: Crashing, cloud: Cloud) -> Cell:
    folder = tmp_path_factory.mktemp("matrix")
    new_ledger(folder / "empty.db").close()
    client = cloud.app(secrets={"s3cret": None}, roles=intune.ROLES)
    names = {"tenant": cloud.tenant, "client_id": client, "secret": "s3cret", "login": cloud.login, "graph": cloud.graph}
    key = {"provider": intune.PROVIDER, "key_name": intune.KEY_NAME, "public_key": intune.pem().decode()}
    transport: dict[str, object] = {"intune": names, "environment": dict(cloud.environment), **key}
    return Cell(server, cloud, authority, folder, folder / "empty.db", transport=transport)


def fresh(world: Cell, cloud: Cloud, count: int = MESSAGES) -> Cell:
    cell = world.fresh(count=count)
    cloud.users({"mail": f"p{number}.{cell.tag}@example.org"} for number in range(1, count + 1))
    assert cell.run("plan") == [0]
    return cell


def records(cell: Cell, cloud: Cloud) -> dict[str, str]:
    """The records of this cell's people: the id, by address."""
    found = cloud.intune_state()["records"]
    mine = {id_: record["userPrincipalName"] for id_, record in found.items() if f".{cell.tag}@" in record["userPrincipalName"]}
    assert max(Counter(mine.values()).values(), default=0) <= 1  # nobody has two
    return {address: id_ for id_, address in mine.items()}


def true_at_any_time(cell: Cell, cloud: Cloud, *, verified: bool = True) -> None:
    """What the ledger calls imported is there; what is there the ledger knows, or knows that it does not know."""
    there, unsure = records(cell, cloud), {State.ACCEPTED, State.AMBIGUOUS, State.TRANSMITTING}
    for delivery in cell.deliveries():
        assert delivery.state is not State.ACCEPTED or there.get(delivery.address) == delivery.message_id
        assert delivery.address not in there or delivery.state in unsure or delivery.attempts > 1
    with cell.opened() as ledger:
        assert not verified or ledger.verify() == []


def settled(cell: Cell, cloud: Cloud) -> None:
    true_at_any_time(cell, cloud)
    assert Counter(delivery.state for delivery in cell.deliveries()) == {State.ACCEPTED: cell.count}
    assert len(records(cell, cloud)) == cell.count


@pytest.mark.parametrize(
    ("step", "hit"), [pytest.param(s, h, marks=[] if s in ALWAYS and h == 3 else [MANY]) for s in STEPS for h in (1, 3, MESSAGES)]
)
def test_an_import_that_was_killed_is_taken_up_and_makes_no_second_record(world: Cell, cloud: Cloud, step: str, hit: int) -> None:
    cell = fresh(world, cloud)
    assert cell.run("send", step=step, hit=1 if step in {"claim:after", "store:inside"} else hit) == [KILLED]
    true_at_any_time(cell, cloud)
    cell.finish()
    cell.finish()
    settled(cell, cloud)


FIRST = ("written, then 504", "the line is cut before it was written", "there already, it says", "it cannot be seen at once")


@pytest.mark.parametrize("fault", [pytest.param(fault, marks=[] if fault in FIRST else [MANY]) for fault in FAULTS])
def test_a_service_that_behaves_badly_makes_no_second_record_and_loses_nobody(world: Cell, cloud: Cloud, fault: str) -> None:
    operation, action, options = FAULTS[fault]
    cell = fresh(world, cloud)
    cloud.fault(operation, action, skip=1, **options)
    cell.finish()
    cell.finish()
    assert cloud.faults() == []
    settled(cell, cloud)


@pytest.mark.slow(reason="a thousand people")
def test_many_imports_with_kills_at_every_step(world: Cell, cloud: Cloud) -> None:
    """DISTRIBUTOR_IMPORTS=5000 imports so many."""
    cloud.intune(opens_packages=False)  # all of them at the end
    count = int(os.environ.get("DISTRIBUTOR_IMPORTS", "400"))
    cell, chance, kills = fresh(world, cloud, count=count), random.Random(count), 0  # noqa: S311  where it is killed
    for step in sorted(STEPS, key=lambda step: step not in {"build:after", "store:inside"}):  # packing is soon over
        hit = 1 if step in {"claim:after", "store:inside"} else chance.randrange(count // 250, count // 14)
        kills += cell.run("send", step=step, hit=hit, connections=4) == [KILLED]
        true_at_any_time(cell, cloud, verified=False)
    assert kills == len(STEPS)
    cell.finish(connections=4)
    settled(cell, cloud)
    mine = [one for one in cloud.installed() if f".{cell.tag}@" in one["userPrincipalName"]]
    assert len(mine) == cell.count
    assert all(one["certificate"] == one["thumbprint"] for one in mine)
    again = {id_: number for id_, number in cloud.intune_state()["written"].items() if number > 1}
    assert len(again) <= kills * 4  # only what was under way when a process was killed is written again, into the same record
