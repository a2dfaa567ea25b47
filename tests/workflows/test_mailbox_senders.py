"""Several mailboxes side by side: each with its own rate, daily limit and circuit breaker; a person's messages stay with one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from distributor.errors import ServiceUnavailable
from distributor.model.attempts import Accepted, NotSent, OutboundMessage, Outcome, PackedMessage, PackingJob
from distributor.model.certificates import FilePart, Locator, SourceMaterial
from distributor.model.delivery import DeliveryFilter
from distributor.model.people import Address, Person
from distributor.model.ports import Ledger
from distributor.model.states import State
from distributor.workflows.packing import Batch, SenderBalance, pack
from distributor.workflows.sending.report import EarlyStop, SendReport
from tests.workflows import outbox
from tests.workflows.scripted import ScriptedTransport, SendHarness

SENDERS = ("certificates@example.org", "certificates2@example.org", "certificates3@example.org")


def by_sender(transport: ScriptedTransport) -> Counter[str]:
    return Counter(message.sender for message in transport.sent)


def test_each_mailbox_carries_its_own_messages_in_lanes_of_its_own(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 12, senders=SENDERS)
    transport = ScriptedTransport(max_connections=2)
    assert harness.run(transport, senders=SENDERS) == SendReport(12, 0, 0, 0, 0)
    assert by_sender(transport) == dict.fromkeys(SENDERS, 4)
    assert Counter(transport.senders) == dict.fromkeys(SENDERS, 2)


def test_each_mailbox_has_a_pace_of_its_own(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 3)
    harness.run(ScriptedTransport(per_minute=30), senders=SENDERS[:1])
    assert harness.clock.slept == [2.0, 2.0]
    outbox.plan(harness.ledger, 3, first=4)
    outbox.pack(harness.ledger, senders=SENDERS)
    harness.clock.slept.clear()
    harness.clock.time += timedelta(minutes=1)
    assert harness.run(ScriptedTransport(per_minute=30), senders=SENDERS).accepted == 3
    assert harness.clock.slept == []


def test_messages_of_a_mailbox_that_is_named_no_more_go_by_the_first(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 4, senders=("old@example.org", SENDERS[1]))
    transport = ScriptedTransport()
    assert harness.run(transport, senders=SENDERS[:2]).accepted == 4
    assert by_sender(transport) == {"old@example.org": 2, SENDERS[1]: 2}


def test_one_mailbox_refused_does_not_stop_the_others(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 9, senders=SENDERS)
    refused = ServiceUnavailable("the mailbox is refused", where=SENDERS[1])

    async def answer(message: OutboundMessage) -> Outcome:
        return NotSent("403", fatal=refused) if message.sender == SENDERS[1] else Accepted("202")

    report = harness.run(ScriptedTransport({"": [answer] * 99}), senders=SENDERS)
    assert (report.accepted, report.remaining, report.error) == (6, 3, refused)
    assert Counter(harness.states().values()) == {"accepted": 6, "queued": 3}


def test_the_limit_of_a_run_counts_for_all_its_mailboxes_together(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 12, senders=SENDERS)
    assert harness.run(ScriptedTransport(), senders=SENDERS, limit=5) == SendReport(5, 0, 0, 0, 7)


def test_a_mailbox_stops_before_its_daily_limit_and_goes_on_a_day_later(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 5)
    report = harness.run(ScriptedTransport(daily=3))
    assert (report.accepted, report.remaining) == (3, 2)
    assert isinstance(report.error, EarlyStop)
    assert str(report.error) == f"{outbox.SENDER}: 3 messages in 24 hours is the limit of this mailbox"
    assert report.error.hint == "run `distributor send` again after 2026-05-02 12:00 UTC"
    assert harness.run(ScriptedTransport(daily=3)).accepted == 0
    harness.clock.time += timedelta(hours=24)
    assert harness.run(ScriptedTransport(daily=3)) == SendReport(2, 0, 0, 0, 0)


def test_a_daily_limit_that_is_just_enough_is_no_error(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 3)
    assert harness.run(ScriptedTransport(daily=3)) == SendReport(3, 0, 0, 0, 0)


def test_the_day_of_one_mailbox_is_not_that_of_another(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 6, senders=SENDERS[:2])
    assert harness.run(ScriptedTransport(daily=3), senders=SENDERS[:2]) == SendReport(6, 0, 0, 0, 0)


def test_a_service_that_asks_for_time_gets_it(harness: SendHarness) -> None:
    outbox.queue(harness.ledger, 1)
    harness.run(ScriptedTransport({"": [NotSent("429", throttled=True, retry_after=timedelta(seconds=90))]}))
    assert harness.clock.slept == [90.0]
    assert harness.states() == {"p1": State.ACCEPTED}


PEOPLE = [Address(f"p{number}", "example.org") for number in range(3000)]


def chosen(people: Iterable[Address], balance: SenderBalance) -> dict[str, str | None]:
    return {person.key: balance.choose(person, None) for person in people}


@pytest.mark.parametrize("mailboxes", [2, 4, 8])
@pytest.mark.parametrize("number", [400, 3000])
def test_people_are_spread_so_that_no_mailbox_works_long_after_the_others(number: int, mailboxes: int) -> None:
    senders = [f"certificates{n}@example.org" for n in range(mailboxes)]
    messages = Counter(chosen(PEOPLE[:number], SenderBalance(senders, {})).values())
    assert number / (mailboxes * max(messages.values())) >= 0.96  # of the rate of all mailboxes together, over the whole run


@pytest.mark.parametrize("mailboxes", [2, 4, 8])
def test_people_are_spread_as_well_where_messages_wait_already(mailboxes: int) -> None:
    senders = [f"certificates{n}@example.org" for n in range(mailboxes)]
    waiting = Counter(chosen(PEOPLE[:200], SenderBalance(senders, {})).values()) + Counter({senders[0]: 20})
    messages = waiting + Counter(chosen(PEOPLE[200:800], SenderBalance(senders, waiting)).values())
    assert 820 / (mailboxes * max(messages.values())) >= 0.96


def test_two_processes_that_pack_at_the_same_time_spread_people_nearly_as_well() -> None:
    senders = [f"certificates{n}@example.org" for n in range(8)]
    both = Counter[str | None]()
    for part in (PEOPLE[:800:2], PEOPLE[1:800:2]):
        both += Counter(chosen(part, SenderBalance(senders, {})).values())
    assert 800 / (8 * max(both.values())) >= 0.93


def test_a_person_stays_with_the_mailbox_of_the_last_message_while_it_is_configured() -> None:
    balance = SenderBalance(SENDERS, {SENDERS[1]: 10_000})
    assert {balance.choose(person, SENDERS[1]) for person in PEOPLE[:50]} == {SENDERS[1]}
    assert {balance.choose(person, "gone@example.org") for person in PEOPLE[50:100]} <= {SENDERS[0], SENDERS[2]}
    assert SenderBalance((), {}).choose(PEOPLE[0], "gone@example.org") == "gone@example.org"


def test_two_messages_of_a_new_person_come_from_one_mailbox_also_before_the_first_is_stored() -> None:
    balance = SenderBalance(SENDERS, {})
    first = chosen(PEOPLE[:300], balance)
    chosen(PEOPLE[300:350], balance)
    assert first == chosen(PEOPLE[299::-1], balance)


def test_a_person_s_two_mailboxes_depend_on_neither_order_nor_a_third() -> None:
    full = {person.key: SenderBalance(SENDERS, {}).choose(person, None) for person in PEOPLE[:300]}
    assert full == {person.key: SenderBalance(SENDERS[::-1], {}).choose(person, None) for person in PEOPLE[:300]}
    fewer = {person.key: SenderBalance(SENDERS[:2], {}).choose(person, None) for person in PEOPLE[:300]}
    assert all(fewer[key] == sender for key, sender in full.items() if sender in SENDERS[:2])


def test_what_is_frozen_keeps_its_sender_and_a_resumed_run_evens_out_the_rest(tmp_path: Path) -> None:
    clock = [datetime(2026, 5, 1, 12, tzinfo=UTC)]
    ledger = outbox.new_ledger(tmp_path / "distributor.db", lambda: clock[0])
    outbox.plan(ledger, 400)
    stored: list[str] = []
    list(packing(ledger, lambda: len(stored) > 130, stored))
    before = senders_in(ledger)
    assert 130 < len(before) < 400
    clock[0] += timedelta(hours=1)
    list(packing(ledger, lambda: False, stored))
    after = senders_in(ledger)
    assert len(after) == 400
    assert before.items() <= after.items()
    assert 400 / (len(SENDERS) * max(Counter(after.values()).values())) >= 0.96
    ledger.close()


def packing(ledger: Ledger, stop: Callable[[], bool], made: list[str]) -> Iterator[Batch]:
    """Pack with the packing workflow, whose children and files are stand-ins."""

    class Files:
        def fetch(self, _locator: Locator, _person: Person | None) -> SourceMaterial:
            return SourceMaterial("pkcs12", (FilePart("a.pfx", "/a.pfx", None, "", b""),))

    class Pool:
        def map(self, jobs: Iterable[PackingJob]) -> Iterator[tuple[PackingJob, PackedMessage]]:
            for job in jobs:
                made.append(job.task.id)
                yield job, outbox.packed(job.task.id, str(job.task.person.address), sender=job.task.sender or "")

    return pack(  # type: ignore[misc]  stand-ins
        ledger,
        lambda _: (Files(), {}),  # type: ignore[arg-type, return-value]
        Pool(),  # type: ignore[arg-type]
        owner=outbox.me(),
        lease=timedelta(seconds=60),
        scope=DeliveryFilter(),
        limit=None,
        now=outbox.now,
        stop=stop,
        senders=SENDERS,
    )


def senders_in(ledger: Ledger) -> dict[str, str]:
    owner = outbox.me()
    claims = ledger.claim(owner, 1000, timedelta(seconds=60), DeliveryFilter())
    ledger.release(claims, owner)
    return {claim.id: claim.message.sender for claim in claims}
