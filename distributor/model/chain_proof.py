"""Proves events of the chain delivery by delivery, so that parts can be proved side by side; what is wrong with one, ChainVerifier says.

Each event comes with the stored hash of the one before it. When as many events were proved as the last one's number says, there is no gap.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from distributor.model.audit_log import ADOPTED_STEPS, ADOPTION, ERASED, ORIGIN, STEPS, ChainVerifier, erased_events, quoted
from distributor.model.states import State

Row = Sequence[Any]  # the columns of an event, in the order of Link, then hash and time of the event before it


class _Quoted(dict[str | None, str]):
    """Texts as JSON; the same few names stand in every event."""

    def __missing__(self, text: str | None) -> str:
        if len(self) == _MOST_WORDS:
            self.clear()
        self[text] = found = quoted(text)
        return found


@dataclass(slots=True)
class ChainProof:
    """What was proved of events up to number `until`; later ones are looked at too, but not counted."""

    until: int
    doubtful: set[str | None] = field(default_factory=set)  # deliveries with an event that is not as it must be
    events: int = 0
    back: int = 0  # whose time is earlier than that of the event before
    erased: set[int] = field(default_factory=set)  # that lost their personal fields
    erasures: dict[int, list[int]] = field(default_factory=dict)  # events that each erasure lists, by its own number
    adoptions: set[int] = field(default_factory=set)
    follows: set[int] = field(default_factory=set)  # adoptions that steps name
    claims: dict[str, int] = field(default_factory=dict)  # the evidence of claims, each with the number of the first that has it

    def add(self, events: Sequence[Row]) -> bool:
        """Whether all events of a delivery, or events of none, oldest first, are as they must be."""
        try:
            holds = self._prove(events)
        except (TypeError, ValueError, AttributeError, RecursionError):  # what this program never writes
            holds = False
        if not holds:
            self.doubtful.add(events[0][2])
        return holds

    def _prove(self, events: Sequence[Row]) -> bool:  # noqa: C901, PLR0912  one loop, a million times
        words, steps, until = _WORDS, _STEPS, self.until
        last, state = 0, None
        name = quoted(events[0][2])
        for seq, at, delivery, event, before, after, by, evidence, personal, salt, commitment, stored, prev, prev_at in events:
            text = (
                f'{{"at":"{at}","by":{words[by]},"commitment":"{commitment}","delivery":{name},"event":{words[event]},'
                f'"evidence":{evidence},"from":{words[before]},"prev":"{prev if seq != 1 else ORIGIN}","seq":{seq},"to":{words[after]}}}'
            )
            if seq <= last or sha256(text.encode()).hexdigest() != stored or (prev is None and seq != 1):
                return False
            last = seq
            if personal is not None and salt is not None:
                if sha256(bytes.fromhex(salt) + personal.encode()).hexdigest() != commitment:
                    return False
            elif personal is not salt:
                return False
            elif commitment and seq <= until:
                self.erased.add(seq)
            if delivery is None:
                pass
            elif after is None:
                if state is None:
                    return False
            elif before != state or after != event or ((before, after) not in steps and not self._adopted(seq, before, after, evidence)):
                return False
            else:
                state = after
            if seq <= until:
                self.events += 1
                if prev_at is not None and at < prev_at:
                    self.back += 1
                if event in _NOTED:
                    self._note(seq, event, evidence)
        return True

    def _note(self, seq: int, event: str, evidence: str) -> None:
        if event == ERASED:
            self.erasures[seq] = erased_events(evidence)
        elif event == ADOPTION:
            self.adoptions.add(seq)
        else:
            self.claims[evidence] = min(seq, self.claims.get(evidence, seq))

    def _adopted(self, seq: int, before: str | None, after: str, evidence: str) -> bool:
        """Whether a step is one that only a restored ledger takes; that the adoption it names exists, `verifier` looks up."""
        if after not in ADOPTED_STEPS.get(before, ()):
            return False
        number = json.loads(evidence).get(ADOPTION)
        if not isinstance(number, int) or number >= seq:
            return False
        if seq <= self.until:
            self.follows.add(number)
        return True


_MOST_WORDS = 1000
_WORDS = _Quoted()
_NOTED = frozenset({str(State.CLAIMED), ERASED, ADOPTION})
_STEPS = frozenset((before, after) for before, found in STEPS.items() for after in found)


def join(parts: Iterable[ChainProof], until: int) -> ChainProof | None:
    """The proof of the whole chain, whose last event is number `until`; None where one is doubtful or missing."""
    whole = ChainProof(until)
    for part in parts:
        if part.doubtful:
            return None
        whole.events += part.events
        whole.back += part.back
        whole.erased |= part.erased
        whole.erasures |= part.erasures
        whole.adoptions |= part.adoptions
        whole.follows |= part.follows
        for evidence, seq in part.claims.items():
            whole.claims[evidence] = min(seq, whole.claims.get(evidence, seq))
    return whole if whole.events == until and whole.follows <= whole.adoptions else None


def verifier(whole: ChainProof, hash_: str, at: str, state_of: Callable[[str], str | None]) -> ChainVerifier:
    """A verifier that goes on behind the proved events, as if it had verified each; the last has this hash and time.

    `state_of`: the state of a delivery after them.
    """
    walk = ChainVerifier(state_of)
    walk.seq, walk.hash, walk.at, walk.back, walk.adoptions = whole.until, hash_, at, whole.back, whole.adoptions
    walk.unexplained = set(whole.erased)
    for seq, listed in whole.erasures.items():
        walk.unexplained.difference_update(number for number in listed if number < seq)
    return walk
