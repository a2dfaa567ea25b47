"""A message's way through the ledger, on both databases."""

from __future__ import annotations

import dataclasses
from datetime import datetime, timedelta

import pytest

from distributor.errors import RequestDenied
from distributor.model.attempts import AttemptResult, RecordIntent
from distributor.model.audit_log import format_timestamp
from distributor.model.delivery import Delivery, DeliveryFilter, ExistingDelivery
from distributor.model.people import Address
from distributor.model.states import PasswordState, State
from tests.ledger.world import EVERYTHING, LEASE, ME, YOU, World, draft, packed


def test_a_draft_becomes_a_planned_delivery_that_knows_everything_status_shows(world: World) -> None:
    (anna,) = world.plan("anna")
    info = draft("anna").facts
    assert anna.id.startswith("d-01")
    assert (anna.address, anna.name, anna.language, anna.generation) == ("anna@example.org", "anna Example", "de", 1)
    assert (anna.state, anna.attempts, anna.plan, anna.message_id) == (State.PLANNED, 0, "plan-1", None)
    assert (anna.certificate_sha256, anna.certificate_serial, anna.certificate_not_after) == (info.sha256, info.serial, info.not_after)
    assert (anna.password_channel, anna.password_state, anna.updated_at) == (None, None, world.clock.now)
    assert list(world.ledger.deliveries(EVERYTHING)) == [anna]


def test_a_pair_of_person_and_certificate_is_planned_once(world: World) -> None:
    (anna,) = world.plan("anna")
    world.clock.forward(hours=1)
    (known,) = world.ledger.plan("plan-1", [draft("anna")])
    assert isinstance(known, ExistingDelivery)
    assert (known.delivery, known.state, known.since) == (anna.id, State.PLANNED, anna.updated_at)


def test_the_same_draft_twice_in_one_plan_is_one_delivery(world: World) -> None:
    first, second = world.ledger.plan("plan-1", [draft("anna"), draft("anna")])
    assert isinstance(first, Delivery)
    assert isinstance(second, ExistingDelivery)
    assert second.delivery == first.id


def test_another_certificate_of_the_same_person_is_another_delivery(world: World) -> None:
    world.plan("anna")
    (second,) = world.ledger.plan("plan-1", [draft("anna", certificate="second")])
    assert isinstance(second, Delivery)
    assert second.generation == 1


def test_what_was_withdrawn_may_be_planned_again_as_the_next_generation(world: World) -> None:
    (anna,) = world.plan("anna")
    world.ledger.withdraw(anna.id, "too early")
    (again,) = world.ledger.plan("plan-1", [draft("anna")])
    assert isinstance(again, Delivery)
    assert (again.generation, world.state(anna.id)) == (2, State.WITHDRAWN)


def test_a_plan_remembers_what_it_was_made_from(world: World) -> None:
    assert world.ledger.plan_inputs("plan-1") == {"sources": ["/in"]}
    assert world.ledger.plan_inputs("plan-2") is None


def test_an_empty_cell_of_a_later_roster_takes_no_name_away(world: World) -> None:
    world.plan("anna")
    world.ledger.plan("plan-1", [draft("anna", certificate="second", title="")])
    assert {delivery.name for delivery in world.ledger.deliveries(EVERYTHING)} == {"anna Example"}


def test_more_drafts_than_one_statement_holds_are_planned_in_order(file_world: World) -> None:
    found = file_world.plan(*(f"p{i}" for i in range(1203)))
    assert [delivery.address for delivery in file_world.ledger.deliveries(EVERYTHING)] == [delivery.address for delivery in found]


def test_planned_deliveries_are_lent_to_one_packer_at_a_time(world: World) -> None:
    first, second = world.plan("anna", "bert")
    (mine,) = world.ledger.lease(ME, 1, LEASE, EVERYTHING)
    (yours,) = world.ledger.lease(YOU, 5, LEASE, EVERYTHING)
    assert (mine.id, yours.id) == (first.id, second.id)
    assert world.ledger.lease(ME, 5, LEASE, EVERYTHING) == []
    assert mine.person.address == Address("anna", "example.org")
    assert (mine.person.columns, mine.person.language, mine.language) == ({"room": "12"}, "de-AT", "de")
    assert mine.locator == draft("anna").locator


def test_a_loan_ends_with_its_lease_or_with_its_packer(world: World) -> None:
    world.plan("anna", "bert")
    world.ledger.lease(ME, 1, LEASE, EVERYTHING)
    world.ledger.lease(YOU, 1, timedelta(hours=1), EVERYTHING)
    world.clock.forward(seconds=61)
    assert [lent.person.address.local for lent in world.ledger.lease(ME, 5, LEASE, EVERYTHING)] == ["anna"]
    assert world.ledger.recover(lambda owner: owner.id != "you") == []
    assert [lent.person.address.local for lent in world.ledger.lease(ME, 5, LEASE, EVERYTHING)] == ["bert"]


def test_a_message_is_frozen_once(world: World) -> None:
    (anna,) = world.plan("anna")
    assert world.ledger.enqueue([packed(anna.id), packed(anna.id, again="x"), packed("d-unknown")], ME) == [True, False, False]
    assert world.ledger.enqueue([packed(anna.id, again="y")], YOU) == [False]
    (message,) = world.ledger.messages(EVERYTHING)
    assert (message.message, message.address, message.sender) == (packed(anna.id).message, "anna@example.org", "certs@example.org")
    found = world.ledger.delivery(anna.id)
    assert found is not None
    assert (found.state, found.message_id, found.password_state) == (State.QUEUED, message.message_id, PasswordState.HELD)


def test_a_message_of_a_withdrawn_delivery_is_not_frozen(world: World) -> None:
    (anna,) = world.plan("anna")
    world.ledger.withdraw(anna.id, "left")
    assert world.ledger.enqueue([packed(anna.id)], ME) == [False]


def test_an_accepted_message_has_every_step_in_its_history_and_a_ready_password(world: World) -> None:
    id_ = world.accepted()
    found = world.ledger.delivery(id_)
    assert found is not None
    assert (found.state, found.attempts, found.response, found.password_state) == (State.ACCEPTED, 1, "250 ok", PasswordState.READY)
    assert world.events() == ["planned", "queued", "claimed", "transmitting", "accepted"]
    assert list(world.ledger.messages(EVERYTHING)) == []


def test_events_carry_what_an_auditor_asks_for(world: World) -> None:
    id_ = world.accepted()
    planned, queued, claimed, _, accepted = world.ledger.history("anna@example.org")
    info = draft("anna").facts
    assert planned.evidence["certificate_sha256"] == info.sha256
    assert planned.evidence["certificate_issuer"] == info.issuer
    assert (planned.evidence["address"], planned.evidence["name"], planned.by) == ("anna@example.org", "anna Example", "root@host")
    assert (queued.evidence["message_id"], queued.evidence["package_sha256"]) == (packed(id_).message_id, packed(id_).package_sha256)
    assert (claimed.evidence["attempt"], claimed.evidence["owner"], claimed.evidence["pid"]) == (1, "me", 4711)
    assert (accepted.evidence["said"], accepted.before, accepted.after) == ("250 ok", State.TRANSMITTING, State.ACCEPTED)


def test_two_senders_claim_different_messages_oldest_first(world: World) -> None:
    ids = world.queue("anna", "bert", "cleo")
    mine = world.ledger.claim(ME, 2, LEASE, EVERYTHING)
    yours = world.ledger.claim(YOU, 2, LEASE, EVERYTHING)
    assert [claim.id for claim in (*mine, *yours)] == ids
    assert world.ledger.claim(ME, 2, LEASE, EVERYTHING) == []


def test_a_claim_means_only_what_its_scope_names(world: World) -> None:
    world.queue("anna", "bert")
    assert [
        claim.message.address for claim in world.ledger.claim(ME, 5, LEASE, DeliveryFilter(addresses=frozenset({"bert@example.org"})))
    ] == ["bert@example.org"]
    assert world.ledger.claim(ME, 5, LEASE, DeliveryFilter(plan="plan-2")) == []


def test_a_deferred_message_waits_for_its_time(world: World) -> None:
    claim = world.armed()
    later = world.clock.now + timedelta(minutes=5)
    assert world.settle(claim, State.DEFERRED, response="451 later", not_before=later)
    assert world.ledger.next_due(EVERYTHING) == later
    assert world.ledger.claim(ME, 5, LEASE, EVERYTHING) == []
    world.clock.forward(minutes=5)
    (again,) = world.ledger.claim(ME, 5, LEASE, EVERYTHING)
    assert (again.attempt, again.attempts_deferred, again.message.message) == (2, 1, claim.message.message)
    assert world.ledger.next_due(EVERYTHING) is None


def test_a_deferred_message_may_be_claimed_early_but_not_twice_in_one_run(world: World) -> None:
    claim = world.armed()
    began = world.ledger.position()
    assert world.settle(claim, State.DEFERRED, response="451 later", not_before=world.clock.now + timedelta(hours=1))
    assert world.ledger.claim(ME, 5, LEASE, EVERYTHING, early=True, since=began) == []
    assert [found.id for found in world.ledger.claim(ME, 5, LEASE, EVERYTHING, early=True)] == [claim.id]


@pytest.mark.parametrize("state", [State.DEFERRED, State.REJECTED, State.QUEUED])
def test_an_answer_before_the_point_of_no_return_settles_a_claim(world: World, state: State) -> None:
    claim = world.claimed()
    assert world.settle(claim, state, response="550 no")
    assert world.state(claim.id) is state


@pytest.mark.parametrize("state", [State.ACCEPTED, State.AMBIGUOUS])
def test_what_was_never_armed_is_neither_accepted_nor_ambiguous(world: World, state: State) -> None:
    claim = world.claimed()
    assert not world.settle(claim, state)
    assert world.state(claim.id) is State.CLAIMED


def test_a_batch_is_written_as_one_and_each_step_is_judged_alone(world: World) -> None:
    world.queue("anna", "bert", "cleo")
    anna, bert, cleo = world.ledger.claim(ME, 3, LEASE, EVERYTHING)
    assert world.ledger.write([RecordIntent(anna, LEASE), RecordIntent(bert, LEASE)], ME) == [True, True]
    steps = [
        AttemptResult(anna, State.ACCEPTED, "250"),
        AttemptResult(bert, State.REJECTED, "550"),
        AttemptResult(bert, State.ACCEPTED, "250"),
        RecordIntent(cleo, LEASE),
    ]
    assert world.ledger.write(steps, ME) == [True, True, False, True]
    assert world.ledger.counts(EVERYTHING) == {State.TRANSMITTING: 1, State.ACCEPTED: 1, State.REJECTED: 1}


def test_an_arm_and_its_answer_may_come_in_one_batch(world: World) -> None:
    claim = world.claimed()
    assert world.ledger.write([RecordIntent(claim, LEASE), AttemptResult(claim, State.ACCEPTED, "250")], ME) == [True, True]
    assert world.events()[-2:] == ["transmitting", "accepted"]


def test_a_claim_given_back_is_free_for_others(world: World) -> None:
    claim = world.claimed()
    world.ledger.release([claim], ME)
    assert world.claim(YOU).attempt == 2
    world.ledger.release([claim], ME)
    assert world.state(claim.id) is State.CLAIMED


def test_the_next_generation_replaces_an_unsent_message(world: World) -> None:
    (old,) = world.queue("anna")
    new = world.ledger.regenerate(old, "lost phone")
    assert (new.generation, new.state, new.certificate_sha256) == (2, State.PLANNED, draft("anna").facts.sha256)
    assert world.state(old) is State.WITHDRAWN
    assert [message.delivery for message in world.ledger.messages(EVERYTHING)] == []
    *_, withdrawn, planned = world.ledger.history("anna@example.org")
    assert (withdrawn.evidence["reason"], withdrawn.evidence["replaced_by"]) == ("lost phone", new.id)
    assert (planned.evidence["reason"], planned.evidence["replaces"]) == ("lost phone", old)


def test_who_packs_is_told_who_wrote_to_a_person_before(world: World) -> None:
    (old,) = world.queue("anna")
    world.plan("ben")
    new = world.ledger.regenerate(old, "lost phone")
    lent = {todo.id: todo for todo in world.ledger.lease(ME, 5, LEASE, EVERYTHING)}
    assert lent[new.id].sender == "certs@example.org"
    assert [todo.sender for id_, todo in lent.items() if id_ != new.id] == [None]


def test_the_next_generation_of_a_sent_message_kills_its_password_and_keeps_its_state(world: World) -> None:
    old = world.accepted()
    new = world.ledger.regenerate(old, "lost phone", draft("anna", certificate="second"))
    assert (new.generation, new.certificate_sha256) == (2, draft("anna", certificate="second").facts.sha256)
    assert world.state(old) is State.ACCEPTED
    (envelope,) = world.ledger.envelopes("anna@example.org")
    assert (envelope.state, envelope.sealed) == (PasswordState.DESTROYED, None)
    assert "password-destroyed" in world.events()


def test_no_generation_follows_one_that_was_replaced_already(world: World) -> None:
    (old,) = world.queue("anna")
    world.ledger.regenerate(old, "once")
    with pytest.raises(RequestDenied, match="was replaced by generation 2"):
        world.ledger.regenerate(old, "twice")


def test_no_generation_follows_while_a_sender_holds_the_message(world: World) -> None:
    claim = world.armed()
    with pytest.raises(RequestDenied, match="being sent"):
        world.ledger.regenerate(claim.id, "impatient")
    world.clock.forward(minutes=11)
    assert world.ledger.regenerate(claim.id, "its sender is silent").generation == 2
    assert world.state(claim.id) is State.AMBIGUOUS


def test_a_withdrawn_message_leaves_the_outbox_and_takes_its_password_along(world: World) -> None:
    (id_,) = world.queue("anna")
    world.ledger.withdraw(id_, "left the company")
    (envelope,) = world.ledger.envelopes("anna@example.org")
    assert (envelope.state, envelope.sealed) == (PasswordState.DESTROYED, None)
    assert world.ledger.claim(ME, 5, LEASE, EVERYTHING) == []
    with pytest.raises(RequestDenied, match="already withdrawn"):
        world.ledger.withdraw(id_, "left the company")


def test_what_was_accepted_is_not_taken_back(world: World) -> None:
    id_ = world.accepted()
    with pytest.raises(RequestDenied, match="accepted and cannot be withdrawn"):
        world.ledger.withdraw(id_, "regret")
    with pytest.raises(RequestDenied, match="no such delivery"):
        world.ledger.withdraw("d-none", "typo")


def test_what_may_have_left_is_not_taken_back_before_it_is_settled(world: World) -> None:
    claim = world.ambiguous()
    with pytest.raises(RequestDenied, match="ambiguous and cannot be withdrawn") as refused:
        world.ledger.withdraw(claim.id, "regret")
    assert "resolve" in refused.value.hint
    world.ledger.resolve(claim.id, State.QUEUED, {"reason": "it did not leave"})
    world.ledger.withdraw(claim.id, "regret")
    assert world.state(claim.id) is State.WITHDRAWN


def test_an_ambiguous_delivery_is_settled_by_a_word_with_its_reason(world: World) -> None:
    claim = world.ambiguous()
    (attempt,) = world.ledger.ambiguous(EVERYTHING)
    assert (attempt.delivery.id, attempt.holder, attempt.armed_at) == (claim.id, ME, world.clock.now)
    world.ledger.resolve(claim.id, State.ACCEPTED, {"kind": "word", "reason": "anna says so"})
    *_, last = world.ledger.history("anna@example.org")
    assert (last.event, last.evidence["kind"], last.evidence["reason"]) == ("accepted", "word", "anna says so")
    assert world.ledger.envelopes("anna@example.org")[0].state is PasswordState.READY
    with pytest.raises(RequestDenied, match="not ambiguous"):
        world.ledger.resolve(claim.id, State.QUEUED, {"reason": "again"})


def test_a_message_sent_again_by_a_word_has_the_same_bytes(world: World) -> None:
    claim = world.ambiguous()
    world.ledger.resolve(claim.id, State.QUEUED, {"reason": "not in the log"})
    again = world.claim(YOU)
    assert (again.message, again.attempt) == (dataclasses.replace(claim.message, attempt=2), 2)


def test_plan_and_locator_of_a_delivery_are_found_again(world: World) -> None:
    (anna,) = world.plan("anna")
    assert world.ledger.locator(anna.id) == ("plan-1", draft("anna").locator)
    with pytest.raises(RequestDenied, match="no such delivery"):
        world.ledger.locator("d-none")


def test_what_servers_and_people_say_is_kept_short_and_printable(world: World) -> None:
    claim = world.armed()
    assert world.settle(claim, State.REJECTED, response="550 \x1b[31mno\r\n\u202e\ud800\x00" + "x" * 10**6)
    found = world.ledger.delivery(claim.id)
    assert found is not None
    assert found.response is not None
    assert found.response.startswith("550 \\x1b[31mno\\r\\n\\u202e\\ud800\\x00xxx")
    assert len(found.response) < 2100


def test_plain_rows_say_what_deliveries_say(world: World) -> None:
    world.accepted("anna")
    world.settle(world.armed("bert"), State.DEFERRED, not_before=world.clock.now + timedelta(hours=1))
    world.plan("cleo")
    fields = [field.name for field in dataclasses.fields(Delivery)]
    for row, delivery in zip(world.ledger.rows(EVERYTHING), world.ledger.deliveries(EVERYTHING), strict=True):
        values = [
            format_timestamp(value) if isinstance(value, datetime) else value for value in (getattr(delivery, name) for name in fields)
        ]
        assert list(row) == values


@pytest.mark.parametrize(
    ("scope", "names"),
    [
        (DeliveryFilter(plan="plan-1"), ["anna", "bert"]),
        (DeliveryFilter(plan="plan-2"), []),
        (DeliveryFilter(addresses=frozenset({"bert@example.org"})), ["bert"]),
        (DeliveryFilter(states=frozenset({State.QUEUED, State.CLAIMED})), ["anna", "bert"]),
        (DeliveryFilter(plan="plan-1", addresses=frozenset({"anna@example.org"}), states=frozenset({State.QUEUED})), ["anna"]),
        (DeliveryFilter(states=frozenset({State.ACCEPTED})), []),
    ],
)
def test_every_reader_keeps_to_its_scope(world: World, scope: DeliveryFilter, names: list[str]) -> None:
    world.queue("anna", "bert")
    addresses = [f"{name}@example.org" for name in names]
    assert [delivery.address for delivery in world.ledger.deliveries(scope)] == addresses
    assert [message.address for message in world.ledger.messages(scope)] == addresses
    assert sum(world.ledger.counts(scope).values()) == len(names)
    assert world.ledger.ambiguous(scope) == []
    assert world.ledger.next_due(scope) is None
    assert [claim.message.address for claim in world.ledger.claim(ME, 5, LEASE, scope)] == addresses


def test_states_are_counted_and_listed_by_scope(world: World) -> None:
    world.accepted("anna")
    world.plan("bert")
    assert world.ledger.counts(DeliveryFilter(addresses=frozenset({"anna@example.org"}))) == {State.ACCEPTED: 1}
    assert world.ledger.counts(DeliveryFilter(states=frozenset({State.PLANNED, State.QUEUED}))) == {State.PLANNED: 1}
    assert [found.address for found in world.ledger.deliveries(DeliveryFilter(states=frozenset({State.ACCEPTED})))] == ["anna@example.org"]
    assert list(world.ledger.deliveries(DeliveryFilter(plan="plan-2"))) == []
