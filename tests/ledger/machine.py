"""The ledger beside a plain dictionary that says what it must do, and a server that knows what it really received.

Never twice unless a person said so, never lost, `accepted` only if the server has it, no password before its package.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from distributor.errors import RequestDenied
from distributor.ledger import open_ledger
from distributor.model.attempts import AttemptResult, Claim, RecordIntent
from distributor.model.delivery import Delivery, ExistingDelivery, LeaseHolder
from distributor.model.requests import RequestLimits
from distributor.model.states import EDGES, RECEIVED, PasswordState, RequestState, State
from tests.ledger.world import EVERYTHING, LEASE, Clock, draft, packed

WIRE = timedelta(minutes=10)
OWNERS = [LeaseHolder(f"worker-{number}", "host", number, number) for number in range(3)]
S = State
PICKS = st.integers(0, 100)
UNSENT_ENDS = [S.DEFERRED, S.REJECTED, S.QUEUED]
MANY = RequestLimits(daily=1000, monthly=1000)
HELD_BACK = {S.PLANNED, S.QUEUED, S.DEFERRED}


@dataclass
class Expected:
    """A delivery as it must be."""

    name: str
    certificate: str
    generation: int
    state: State = S.PLANNED
    attempt: int = 0
    owner: str | None = None
    until: datetime | None = None
    due: datetime | None = None
    password: PasswordState | None = None
    expires: datetime | None = None
    ended: datetime | None = None  # when its password was found expired
    word: int = 0  # how often a person said "again"


@dataclass
class Held:
    """A claim in the hands of a sender, who may be dead or slow."""

    claim: Claim
    owner: LeaseHolder
    armed: bool = False
    reached: bool = False


class Machine(RuleBasedStateMachine):
    """The ledger beside its model."""

    template: Path
    claims: Bundle[Held] = Bundle("claims")

    @initialize(target=claims, ways=st.lists(st.sampled_from(["claimed", "armed", "reached"]), min_size=3, max_size=3))
    def begin(self, ways: list[str]) -> object:
        return multiple(*self.begin_with(ways))

    def begin_with(self, ways: list[str]) -> list[Held]:
        """Four people; three messages are claimed by a sender already, in flight or not."""
        self.folder = Path(tempfile.mkdtemp(prefix="machine-"))
        self.url = f"sqlite:///{shutil.copy(self.template, self.folder / 'ledger.db')}"
        self.clock = Clock()
        self.ledger = open_ledger(self.url, by="machine", now=self.clock)
        self.ledger.begin_plan("plan-1", {})
        self.model: dict[str, Expected] = {}
        self.server: Counter[str] = Counter()
        self.exposed: set[tuple[str, str]] = set()
        self.asked: dict[str, tuple[tuple[str, str], RequestState]] = {}
        for name in "abcd":
            self.plan(name, "first")
        self.pack(OWNERS[0], 3, timedelta(days=1), store=True)
        held = self.claim(OWNERS[0], 3, early=False)
        for one, way in zip(held, ways, strict=True):
            if way != "claimed":
                self.arm(one, reached=way == "reached")
        return held

    @rule(name=st.sampled_from("abcde"), certificate=st.sampled_from(["first", "second"]))
    def plan_again(self, name: str, certificate: str) -> None:
        self.plan(name, certificate)

    def plan(self, name: str, certificate: str) -> None:
        (found,) = self.ledger.plan("plan-1", [draft(name, certificate=certificate)])
        same = {id_: e for id_, e in self.model.items() if (e.name, e.certificate) == (name, certificate)}
        alive = [id_ for id_, e in same.items() if e.state is not S.WITHDRAWN]
        if alive:
            assert isinstance(found, ExistingDelivery)
            assert found.delivery in alive
            return
        assert isinstance(found, Delivery)
        generation = max((e.generation for e in same.values()), default=0) + 1
        assert found.generation == generation
        self.model[found.id] = Expected(name, certificate, generation)

    @precondition(lambda self: self.any_is(S.PLANNED))
    @rule(owner=st.sampled_from(OWNERS), limit=st.integers(1, 3), store=st.booleans(), expires=st.sampled_from([None, timedelta(days=1)]))
    def pack_more(self, owner: LeaseHolder, limit: int, expires: timedelta | None, *, store: bool) -> None:
        self.pack(owner, limit, expires, store=store)

    def any_is(self, *states: State) -> bool:
        return any(expected.state in states for expected in self.model.values())

    def one_of(self, pick: int) -> str:
        """Any delivery."""
        return sorted(self.model)[pick % len(self.model)]

    def address(self, delivery: str) -> str:
        """Whose it is."""
        return f"{self.model[delivery].name}@example.org"

    def pack(self, owner: LeaseHolder, limit: int, expires: timedelta | None, *, store: bool) -> None:
        free = [i for i, e in self.model.items() if e.state is S.PLANNED and (e.until is None or e.until <= self.clock.now)]
        taken = [lent.id for lent in self.ledger.lease(owner, limit, LEASE, EVERYTHING)]
        assert taken == self._taken_back(free, limit)
        for id_ in taken:
            self.model[id_].owner, self.model[id_].until = owner.id, self.clock.now + LEASE
        if store:
            assert self.ledger.enqueue([packed(id_, expires=expires, to=self.address(id_)) for id_ in taken], owner) == [True] * len(taken)
            for id_ in taken:
                expected = self.model[id_]
                expected.state, expected.owner, expected.until, expected.password = S.QUEUED, None, None, PasswordState.HELD
                expected.expires = None if expires is None else datetime.max.replace(tzinfo=self.clock.now.tzinfo)

    @precondition(lambda self: self.any_is(S.QUEUED, S.DEFERRED))
    @rule(target=claims, owner=st.sampled_from(OWNERS), limit=st.integers(1, 3), early=st.booleans())
    def claim_more(self, owner: LeaseHolder, limit: int, *, early: bool) -> object:
        return multiple(*self.claim(owner, limit, early=early))

    def claim(self, owner: LeaseHolder, limit: int, *, early: bool) -> list[Held]:
        due = [i for i, e in self.model.items() if e.state is S.QUEUED or (e.state is S.DEFERRED and (early or self._due(e)))]
        found = self.ledger.claim(owner, limit, LEASE, EVERYTHING, early=early)
        assert [claim.id for claim in found] == self._taken_back(due, limit)
        for claim in found:
            expected = self.model[claim.id]
            expected.state, expected.attempt = S.CLAIMED, expected.attempt + 1
            expected.owner, expected.until, expected.due = owner.id, self.clock.now + LEASE, None
            assert claim.attempt == expected.attempt
            assert claim.message.message == packed(claim.id, to=self.address(claim.id)).message
        return [Held(claim, owner) for claim in found]

    def _due(self, expected: Expected) -> bool:
        return expected.due is None or expected.due <= self.clock.now

    def _mine(self, held: Held) -> bool:
        expected = self.model[held.claim.id]
        return (expected.owner, expected.attempt) == (held.owner.id, held.claim.attempt)

    @rule(held=claims, reached=st.booleans())
    def arm_one(self, held: Held, *, reached: bool) -> None:
        self.arm(held, reached=reached)

    def arm(self, held: Held, *, reached: bool) -> None:
        expected = self.model[held.claim.id]
        may = self._mine(held) and expected.state is S.CLAIMED and expected.until is not None and expected.until > self.clock.now
        assert self.ledger.write([RecordIntent(held.claim, WIRE)], held.owner) == [may]
        if may:
            expected.state, expected.until = S.TRANSMITTING, self.clock.now + WIRE
            held.armed, held.reached = True, reached
            self.server[held.claim.id] += reached

    @rule(held=consumes(claims), clear=st.booleans(), no=st.sampled_from(UNSENT_ENDS))
    def settle(self, held: Held, no: State, *, clear: bool) -> None:
        self.settle_one(held, no, clear=clear)

    def settle_one(self, held: Held, no: State, *, clear: bool) -> None:
        state = (S.ACCEPTED if held.reached else no) if clear or not held.armed else S.AMBIGUOUS
        if not held.armed and not clear:
            return  # the sender forgot it
        expected = self.model[held.claim.id]
        on_time = expected.state in {S.CLAIMED, S.TRANSMITTING} and state in EDGES[expected.state]
        late = expected.state is S.AMBIGUOUS and state is S.ACCEPTED
        may = self._mine(held) and (on_time or late)
        due = self.clock.now + timedelta(minutes=5) if state is S.DEFERRED else None
        assert self.ledger.write([AttemptResult(held.claim, state, "said", due and due - self.clock.now)], held.owner) == [may]
        if may:
            expected.state, expected.due, expected.until = state, due, None
            if state is not S.AMBIGUOUS:
                expected.owner = None
            self._received(expected)

    def _received(self, expected: Expected) -> None:
        if expected.state in RECEIVED and expected.password is PasswordState.HELD:
            expected.password = PasswordState.READY
            expected.expires = None if expected.expires is None else self.clock.now + timedelta(days=1)

    @rule(held=consumes(claims))
    def release(self, held: Held) -> None:
        self.ledger.release([held.claim], held.owner)
        expected = self.model[held.claim.id]
        if self._mine(held) and expected.state is S.CLAIMED:
            expected.state, expected.owner, expected.until = S.QUEUED, None, None

    @rule(owner=st.sampled_from(OWNERS))
    def renew(self, owner: LeaseHolder) -> None:
        self.renew_one(owner)

    def renew_one(self, owner: LeaseHolder) -> None:
        self.ledger.renew(owner, LEASE)
        for expected in self.model.values():
            if expected.owner == owner.id and expected.state in {S.PLANNED, S.CLAIMED}:
                expected.until = self.clock.now + LEASE

    @rule(dead=st.sets(st.sampled_from([owner.id for owner in OWNERS])))
    def recover(self, dead: set[str]) -> None:
        self.recover_from(dead)

    def recover_from(self, dead: set[str]) -> None:
        freed = set(self.ledger.recover(lambda owner: owner.id not in dead))
        assert freed == set(self._overdue(dead))
        assert self.ledger.recover(lambda owner: owner.id not in dead) == []

    def _overdue(self, dead: set[str]) -> list[tuple[str, State]]:
        freed = []
        for id_, expected in self.model.items():
            over = expected.until is not None and (expected.until <= self.clock.now or expected.owner in dead)
            if over and expected.state in {S.PLANNED, S.CLAIMED}:
                expected.owner, expected.until = None, None
            if over and expected.state is S.CLAIMED:
                expected.state = S.QUEUED
                freed.append((id_, S.QUEUED))
            if over and expected.state is S.TRANSMITTING:
                expected.state, expected.until = S.AMBIGUOUS, None
                freed.append((id_, S.AMBIGUOUS))
        return freed

    @rule(minutes=st.sampled_from([0.5, 1, 6, 11, 60 * 25]))
    def time_passes(self, minutes: float) -> None:
        self.clock.forward(minutes=minutes)

    @precondition(lambda self: self.any_is(S.AMBIGUOUS))
    @rule(pick=PICKS, again=st.booleans())
    def decide(self, pick: int, *, again: bool) -> None:
        self.decide_one(pick, again=again)

    def decide_one(self, pick: int, *, again: bool) -> None:
        id_ = self.one_of(pick)
        expected = self.model[id_]
        state = S.QUEUED if again else S.ACCEPTED
        replaced = again and (expected.password is PasswordState.DESTROYED or self.is_exposed(expected))  # nobody could open it
        if expected.state is not S.AMBIGUOUS or replaced:
            with pytest.raises(RequestDenied):
                self.ledger.resolve(id_, state, {"reason": "a word"})
            return
        self.ledger.resolve(id_, state, {"reason": "a word"})
        expected.state, expected.owner, expected.until, expected.due = state, None, None, None
        expected.word += 1
        self._received(expected)

    @rule(pick=PICKS)
    def withdraw(self, pick: int) -> None:
        self.withdraw_one(pick)

    def withdraw_one(self, pick: int) -> None:
        id_ = self.one_of(pick)
        expected = self.model[id_]
        unclear = expected.state is S.AMBIGUOUS and expected.password is not PasswordState.DESTROYED and not self.is_exposed(expected)
        if unclear or S.WITHDRAWN not in EDGES[expected.state]:
            with pytest.raises(RequestDenied):
                self.ledger.withdraw(id_, "regret")
            return
        self.ledger.withdraw(id_, "regret")
        self._withdrawn(self.model[id_])

    def _withdrawn(self, expected: Expected) -> None:
        expected.word += expected.state is S.AMBIGUOUS
        expected.state, expected.owner, expected.until = S.WITHDRAWN, None, None
        self._destroyed(expected)

    def _destroyed(self, expected: Expected) -> None:
        if expected.password in {PasswordState.HELD, PasswordState.READY, PasswordState.EXPIRED}:
            expected.password = PasswordState.DESTROYED

    @rule(pick=PICKS)
    def regenerate(self, pick: int) -> None:
        self.regenerate_one(pick)

    def regenerate_one(self, pick: int) -> None:
        id_ = self.one_of(pick)
        old = self.model[id_]
        last = max(e.generation for e in self.model.values() if (e.name, e.certificate) == (old.name, old.certificate))
        on_the_way = old.state in {S.CLAIMED, S.TRANSMITTING}
        busy = on_the_way and old.until is not None and old.until > self.clock.now
        if last > old.generation or busy or self.is_exposed(old):
            with pytest.raises(RequestDenied):
                self.ledger.regenerate(id_, "lost")
            return
        new = self.ledger.regenerate(id_, "lost")
        if on_the_way:
            old.state, old.until = (S.QUEUED if old.state is S.CLAIMED else S.AMBIGUOUS), None
        if old.state in HELD_BACK:
            self._withdrawn(old)
        self._destroyed(old)
        assert new.generation == old.generation + 1
        self.model[new.id] = Expected(old.name, old.certificate, new.generation)

    @rule(pick=PICKS)
    def incident(self, pick: int) -> None:
        self.incident_one(pick)

    def incident_one(self, pick: int) -> None:
        name = self.model[self.one_of(pick)].name
        found = {one.delivery: one for one in self.ledger.incident(f"{name}@example.org", "phone stolen")}
        assert set(found) == {id_ for id_, e in self.model.items() if e.name == name}
        for id_, exposed in found.items():
            expected = self.model[id_]
            self.exposed.add((name, expected.certificate))
            held = expected.password in {PasswordState.HELD, PasswordState.READY, PasswordState.EXPIRED}
            assert exposed.password_destroyed == held
            self._destroyed(expected)
            assert exposed.withdrawn == (expected.state in HELD_BACK | {S.CLAIMED})
            if exposed.withdrawn:
                self._withdrawn(expected)

    def is_exposed(self, expected: Expected) -> bool:
        """Whether an incident was recorded for its certificate, so that it must not leave any more."""
        return (expected.name, expected.certificate) in self.exposed

    def _taken_back(self, waiting: list[str], limit: int) -> list[str]:
        """Which of the deliveries in this order go on: in parts of `limit`, exposed ones are withdrawn until a part has a good one."""
        rest = sorted(waiting)
        while part := rest[:limit]:
            good = [id_ for id_ in part if not self.is_exposed(self.model[id_])]
            for id_ in part:
                if id_ not in good:
                    self._withdrawn(self.model[id_])
            if good:
                return good
            rest = rest[limit:]
        return []

    @rule(pick=PICKS)
    def ask(self, pick: int) -> None:
        self.ask_one(pick)

    def ask_one(self, pick: int) -> None:
        """Ask for another copy; an open request for the certificate is the same request."""
        id_ = self.one_of(pick)
        expected = self.model[id_]
        pair = expected.name, expected.certificate
        known = [r for r, (of, state) in self.asked.items() if of == pair and state is not RequestState.DENIED]
        if self.is_exposed(expected) and not known:
            with pytest.raises(RequestDenied):
                self.ledger.ask(id_, "lost", limits=MANY)
            return
        request = self.ledger.ask(id_, "lost", limits=MANY)
        assert not known or request.id in known
        self.asked.setdefault(request.id, (pair, RequestState.OPEN))

    @rule(pick=PICKS, approve=st.booleans())
    def decide_request(self, pick: int, *, approve: bool) -> None:
        self.decide_request_one(pick, approve=approve)

    def decide_request_one(self, pick: int, *, approve: bool) -> None:
        """Somebody else decides; an approved request that has no new generation may still be denied."""
        if not self.asked:
            return
        id_ = sorted(self.asked)[pick % len(self.asked)]
        pair, state = self.asked[id_]
        other = self.ledger.acting_as("somebody else")
        if state is RequestState.DENIED or (approve and (state is RequestState.APPROVED or pair in self.exposed)):
            with pytest.raises(RequestDenied):
                other.decide(id_, "", approve=approve)
            return
        after = RequestState.APPROVED if approve else RequestState.DENIED
        assert other.decide(id_, "", approve=approve).state is after
        self.asked[id_] = pair, after

    @rule(pick=PICKS)
    def reveal(self, pick: int) -> None:
        self.reveal_one(pick)

    def reveal_one(self, pick: int) -> None:
        id_ = self.one_of(pick)
        expected = self.model[id_]
        over = expected.expires is not None and expected.expires <= self.clock.now
        if expected.password is PasswordState.READY and expected.state in RECEIVED and not over:
            assert self.server[id_] or expected.word, "a password left before its package arrived"
            assert self.ledger.hand_over(id_, "asked", "reveal") == f"sealed {id_}".encode()
            expected.password = PasswordState.HANDED_OVER
            return
        with pytest.raises(RequestDenied):
            self.ledger.hand_over(id_, "asked", "reveal")

    @rule()
    def expire(self) -> None:
        self.expire_all()

    def expire_all(self) -> None:
        over = [
            e for e in self.model.values() if e.password is PasswordState.READY and e.expires is not None and e.expires <= self.clock.now
        ]
        assert self.ledger.expire() == len(over)
        for expected in over:
            expected.password, expected.ended = PasswordState.EXPIRED, self.clock.now
        self._some_destroyed()

    def _some_destroyed(self) -> None:
        """What ended a week ago may be destroyed; when, depends on how often anything happened since."""
        for delivery in self.ledger.deliveries(EVERYTHING):
            expected = self.model[delivery.id]
            if expected.password is PasswordState.EXPIRED and delivery.password_state is PasswordState.DESTROYED:
                assert expected.ended is not None
                assert expected.ended + timedelta(days=7) <= self.clock.now
                expected.password = PasswordState.DESTROYED

    @rule()
    def open_again(self) -> None:
        self.reopen()

    def reopen(self) -> None:
        self.ledger.close()
        self.ledger = open_ledger(self.url, by="machine", now=self.clock)

    @invariant()
    def the_ledger_says_what_the_model_says(self) -> None:
        if not hasattr(self, "model"):
            return
        found = {d.id: (d.state, d.attempts, d.generation, d.password_state) for d in self.ledger.deliveries(EVERYTHING)}
        assert found == {id_: (e.state, e.attempt, e.generation, e.password) for id_, e in self.model.items()}

    @invariant()
    def nothing_is_sent_twice_or_lost_or_claimed_without_proof(self) -> None:
        for id_, expected in getattr(self, "model", {}).items():
            assert self.server[id_] <= 1 + expected.word
            if expected.state is S.ACCEPTED:
                assert self.server[id_] or expected.word
            if self.server[id_] and not expected.word:
                assert expected.state in {S.TRANSMITTING, S.ACCEPTED, S.AMBIGUOUS}

    def teardown(self) -> None:
        if hasattr(self, "ledger"):
            assert self.ledger.verify() == []
            self.ledger.close()
            shutil.rmtree(self.folder)
