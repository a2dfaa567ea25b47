"""Proves a part of the chain of events at once, so that parts can be proved side by side; what is wrong with one, ChainVerifier says.

A part begins with the stored hash of the event before it. Parts that follow each other, each proved, are as good as the whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from distributor.model.audit_log import ADOPTED_STEPS, ADOPTION, ERASED, STEPS, ChainVerifier, erased_events, quoted
from distributor.model.states import State

Row = Sequence[Any]  # the columns of an event, in the order of Link
Deliveries = dict[str | None, str]  # their ids by state, separated by line feeds: one text is passed between processes quickly


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
    before: Deliveries = field(default_factory=dict)  # by the state from which their first step here goes on
    after: Deliveries = field(default_factory=dict)  # the same ones by their state after the part
    noted: set[str] = field(default_factory=set)  # deliveries with an event before their first step here
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
    part, words = ChainRange(start, start_hash, start, start_hash), _Quoted()
    before, states = dict[str, str | None](), dict[str, str | None]()
    for page in pages:
        if not _prove_page(part, page, words, before, states):
            return None
    if any("\n" in delivery for delivery in states):
        return None
    part.before, part.after = _by_state(before), _by_state(states)
    return part


def _by_state(states: Mapping[str, str | None]) -> Deliveries:
    found: dict[str | None, list[str]] = {state: [] for state in states.values()}
    for delivery, state in states.items():
        found[state].append(delivery)
    return {state: "\n".join(ids) for state, ids in found.items()}


def _prove_page(  # noqa: C901, PLR0912  one loop, a million times
    part: ChainRange, page: Sequence[Row], words: _Quoted, firsts: dict[str, str | None], states: dict[str, str | None]
) -> bool:
    """Whether the next events are as they must be. `firsts`: from which state each delivery's first step goes on; `states`: after it."""
    seq, prev, last_at, steps = part.seq, part.hash, part.at, _STEPS
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
                    firsts[delivery] = before
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
        if any(set(map(walk.states.get, ids.split("\n"))) != {state} for state, ids in part.before.items()):
            return None
        if not part.noted <= walk.states.keys():
            return None
        walk.adoptions |= part.adoptions
        if not part.follows <= walk.adoptions:
            return None
        walk.back += part.back + (part.first_at < walk.at)
        walk.unexplained -= part.explained
        walk.unexplained |= part.unexplained
        for state, ids in part.after.items():
            walk.states |= dict.fromkeys(ids.split("\n"), str(state))
        walk.seq, walk.hash, walk.at = part.seq, part.hash, part.at
    return walk
