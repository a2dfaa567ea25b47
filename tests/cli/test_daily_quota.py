"""The daily quota of a mailbox, as `distributor send` keeps it."""

from __future__ import annotations

from distributor.model.delivery import DeliveryFilter
from tests.cli.test_next_step import bounce, ledger
from tests.cli.test_question import limits
from tests.workspace import Workspace


def states(workspace: Workspace) -> list[str]:
    with ledger(workspace) as found:
        return [delivery.state.value for delivery in found.deliveries(DeliveryFilter())]


def test_withdrawing_a_bounced_message_does_not_give_its_part_of_the_daily_quota_back(planned: Workspace) -> None:
    limits(planned, "daily = 1")
    assert planned.run("distributor send --yes").returncode == 4
    assert states(planned) == ["accepted", "queued"]
    bounce(planned, "alice")
    with ledger(planned) as found:
        (alice,) = found.deliveries(DeliveryFilter(addresses=frozenset({"alice@example.org"})))
    planned.run_script(f'$ distributor withdraw {alice.id} --reason "a wrong address" >/dev/null 2>&1\n')
    assert states(planned) == ["withdrawn", "queued"]
    assert planned.run("distributor send --yes").returncode == 4
    assert states(planned) == ["withdrawn", "queued"]
