"""Proves a part of the chain of events at once, so that parts can be proved side by side; what is wrong with one, ChainVerifier says.

A part begins with the stored hash of the event before it. Parts that follow each other, each proved, are as good as the whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from distributor.model.audit_log import ADOPTED_STEPS, ADOPTION, ERASED, STEPS, ChainVerifier, erased_events, quoted
from distributor.model.states import State

Row = Sequence[Any]  # the columns of an event, in the order of Link


@dataclass(slots=True)
class ChainRange:
    """A part that was proved but for the states that its deliveries were in before it. `seq`, `hash` and `at` are of its last event."""

    start: int  # number of the event before it
    start_hash: str
    seq: int
    hash: str
    first_at: str = ""
    at: str = ""
    back: int = 0
    erased: int = 0
    before: dict[str, str | None] = field(default_factory=dict)  # the state from which a delivery's first step here goes on
    noted: set[str] = field(default_factory=set)  # deliveries with an event before their first step here
    states: dict[str, str] = field(default_factory=dict)  # after the part
    unexplained: set[int] = field(default_factory=set)
    explained: set[int] = field(default_factory=set)  # that an erasure here lists
    adoptions: set[int] = field(default_factory=set)
    follows: set[int] = field(default_factory=set)  # adoptions that steps here name
    claims: dict[str, None] = field(default_factory=dict)  # the evidence of its claims, each once, in order
    erasures: list[str] = field(default_factory=list)  # the evidence of its erasures


class _Quoted(dict[str | None, str]):
    """Texts as JSON; the same few names stand in every event."""

    def __missing__(self, text: str | None) -> str:
        self[text] = found = quoted(text)
        return found


def prove(start: int, start_hash: str, pages: Iterable[Sequence[Row]]) -> ChainRange | None:
    """The events after number `start`, page by page; None where anything is not as it must be."""
    part = ChainRange(start, start_hash, start, start_hash)
    words = _Quoted()
    for page in pages:
        if not _prove_page(part, page, words):
            return None
    return part


def _prove_page(part: ChainRange, page: Sequence[Row], words: _Quoted) -> bool:  # noqa: C901, PLR0912  one loop, a million times
    seq, prev, last_at, states, steps = part.seq, part.hash, part.at, part.states, _STEPS
    for number, at, delivery, event, before, after, by, evidence, personal, salt, commitment, stored in page:
        seq += 1
        text = (
            f'{{"at":"{at}","by":{words[by]},"commitment":"{commitment}","delivery":{quoted(delivery)},"event":{words[event]},'
            f'"evidence":{evidence},"from":{words[before]},"prev":"{prev}","seq":{seq},"to":{words[after]}}}'
        )
        prev = sha256(text.encode()).hexdigest()
        if number != seq or prev != stored:
            return False
        if personal is not None and salt is not None:
            if sha256(bytes.fromhex(salt) + personal.encode()).hexdigest() != commitment:
                return False
        elif personal is not salt:
            return False
        elif commitment:
            part.erased += 1
            part.unexplained.add(seq)
        if at < last_at:
            part.back += 1
        elif not last_at:
            part.first_at = at
        last_at = at
        if delivery is not None:
            if after is not None:
                if after != event or ((before, after) not in steps and not _adopted(part, seq, before, after, evidence)):
                    return False
                known = states.get(delivery)
                if known is None:
                    part.before[delivery] = before
                elif known != before:
                    return False
                states[delivery] = after
            elif delivery not in states:
                part.noted.add(delivery)
        if event == _CLAIMED:
            part.claims[evidence] = None
        elif event == ERASED:
            listed = erased_events(evidence)
            part.explained.update(listed)
            part.unexplained.difference_update(listed)
            part.erasures.append(evidence)
        elif event == ADOPTION:
            part.adoptions.add(seq)
    part.seq, part.hash, part.at = seq, prev, last_at
    return True


def _adopted(part: ChainRange, seq: int, before: str | None, after: str, evidence: str) -> bool:
    """Whether a step is one that only a restored ledger takes; that the adoption it names exists, joining the parts shows."""
    if after not in ADOPTED_STEPS.get(before, ()):
        return False
    number = json.loads(evidence).get(ADOPTION)
    if not isinstance(number, int) or number >= seq:
        return False
    part.follows.add(number)
    return True


_CLAIMED = str(State.CLAIMED)
_STEPS = frozenset((before, after) for before, found in STEPS.items() for after in found)


def join(parts: Iterable[ChainRange | None]) -> ChainVerifier | None:
    """A verifier that goes on behind these parts, as if it had verified each of their events; None where they do not fit."""
    walk = ChainVerifier()
    for part in parts:
        if part is None or (part.start, part.start_hash) != (walk.seq, walk.hash):
            return None
        if any(walk.states.get(delivery) != before for delivery, before in part.before.items()) or not part.noted <= walk.states.keys():
            return None
        walk.adoptions |= part.adoptions
        if not part.follows <= walk.adoptions:
            return None
        walk.back += part.back + (part.first_at < walk.at)
        walk.unexplained -= part.explained
        walk.unexplained |= part.unexplained
        walk.states |= part.states
        walk.seq, walk.hash, walk.at = part.seq, part.hash, part.at
    return walk
