"""Events are proved delivery by delivery; together they are the chain only if none is missing and each step follows from the one before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from distributor.model.audit_log import ORIGIN, ChainVerifier, Link, commit, digest
from distributor.model.chain_proof import ChainProof, join, verifier

Step = tuple[str | None, str | None, str]
PLANNED: list[Step] = [("d-1", None, "planned"), ("d-2", None, "planned"), ("d-1", "planned", "queued")]
AT = "2026-10-01T10:00:00.000000Z"
SALT = "00" * 16


def chain(steps: Sequence[Step], **changes: object) -> list[tuple[Any, ...]]:
    """Events of steps (delivery, state before, state after) with right hashes, each with hash and time of the one before.

    `changes` are made to the last one before it is hashed. A step of no delivery is a note.
    """
    found: list[tuple[Any, ...]] = []
    prev, at = ORIGIN, None
    for seq, (delivery, before, after) in enumerate(steps, 1):
        link = Link(seq, AT, delivery, after, before, None if delivery is None else after, "me", "{}", None, None, "", "")
        if seq == len(steps):
            link = link._replace(**changes)  # type: ignore[arg-type]  fields by their names
        link = link._replace(hash=digest(link, prev))
        found.append((*link, None if seq == 1 else prev, at))
        prev, at = link.hash, link.at
    return found


def proved(events: Sequence[tuple[Any, ...]], until: int | None = None) -> list[ChainProof]:
    """A proof for each delivery, and one for the events of none."""
    parts = {row[2]: ChainProof(until or len(events)) for row in events}
    for name, part in parts.items():
        part.add([row for row in events if row[2] == name])
    return list(parts.values())


def whole(events: Sequence[tuple[Any, ...]]) -> ChainVerifier | None:
    """The verifier that goes on behind them."""
    proof = join(proved(events), len(events))
    states = {row[2]: row[5] for row in events if row[5] is not None}
    return None if proof is None else verifier(proof, events[-1][11], events[-1][1], states.get)


def test_deliveries_that_were_proved_one_by_one_are_the_chain() -> None:
    walk = whole(chain([*PLANNED, ("d-1", "queued", "claimed"), ("d-2", "planned", "queued")]))
    assert walk is not None
    assert (walk.seq, walk.at, walk.back) == (5, AT, 0)


def test_the_next_event_goes_on_from_the_state_that_was_proved() -> None:
    events = chain([*PLANNED, ("d-1", "queued", "claimed")])
    for before, faults in (("queued", 0), ("planned", 2)):  # from another state, and to one that this one does not lead to
        walk = whole(events[:3])
        assert walk is not None
        link = Link._make(events[3][:12])._replace(before=before)
        assert len(walk.verify_link(link._replace(hash=digest(link, walk.hash)))) == faults


@pytest.mark.parametrize(
    "step",
    [("d-2", "queued", "claimed"), ("d-3", "planned", "queued"), ("d-2", None, "planned"), ("d-2", "planned", "accepted")],
    ids=["another state", "never planned", "planned again", "no such step"],
)
def test_a_step_that_does_not_follow_is_refused(step: Step) -> None:
    assert whole(chain([*PLANNED, step])) is None


def test_a_note_of_what_was_never_planned_is_refused() -> None:
    assert whole(chain([*PLANNED, ("d-3", None, "revealed")], after=None)) is None
    assert whole(chain([*PLANNED, ("d-2", None, "revealed")], after=None)) is not None


def test_a_missing_event_is_missed() -> None:
    assert join(proved(chain(PLANNED)[:2], until=3), 3) is None


def test_an_event_that_is_there_twice_does_not_stand_for_another() -> None:
    events = chain([("d-1", None, "planned"), (None, None, "noted"), (None, None, "noted")])
    proof = ChainProof(3)
    proof.add([events[1], events[1]])
    assert proof.doubtful == {None}


@pytest.mark.parametrize("place", [1, 6, 7, 11, 12], ids=["at", "by", "evidence", "hash", "hash before"])
@pytest.mark.parametrize("value", ["x", b"x", None])
def test_an_event_that_is_not_as_it_was_hashed_is_refused(place: int, value: object) -> None:
    events = chain(PLANNED)
    events[2] = (*events[2][:place], value, *events[2][place + 1 :])
    assert whole(events) is None


PERSONAL = {"personal": "{}", "salt": SALT, "commitment": commit(SALT, "{}")}


@pytest.mark.parametrize(
    "changes", [{"personal": '{"a":1}'}, {"salt": "zz"}, {"salt": None}, {"personal": None}, {"commitment": ""}], ids=str
)
def test_personal_fields_that_do_not_match_their_commitment_are_refused(changes: dict[str, object]) -> None:
    assert whole(chain(PLANNED, **PERSONAL)) is not None
    assert whole(chain(PLANNED, **(PERSONAL | changes))) is None


def test_lost_personal_fields_are_explained_by_an_erasure_after_them() -> None:
    lost: dict[str, object] = {"commitment": PERSONAL["commitment"]}
    events = chain(PLANNED, **lost)
    walk = whole(events)
    assert walk is not None
    assert walk.unexplained == {3}
    proof = join(proved(events), 3)
    assert proof is not None
    for seq, unexplained in ((2, {3}), (4, set[int]())):
        assert verifier(replace(proof, erasures={seq: [3]}), "", AT, lambda _: None).unexplained == unexplained


@pytest.mark.parametrize(("number", "holds"), [(1, True), (2, False), (4, False), ('"1"', False)])
def test_a_step_of_a_restored_ledger_needs_the_adoption_that_it_names(number: object, *, holds: bool) -> None:
    steps: list[Step] = [(None, None, "adopted"), ("d-1", None, "planned"), ("d-1", "planned", "queued"), ("d-1", "queued", "ambiguous")]
    assert (whole(chain(steps, evidence=f'{{"adopted":{number}}}')) is not None) is holds


def test_times_that_go_back_are_counted_and_later_events_are_not() -> None:
    events = chain(PLANNED, at="2020")
    (first, *rest) = proved(events, until=2)
    assert (first.doubtful, first.events, first.back, [part.events for part in rest]) == (set(), 1, 0, [1])
    assert sum(part.back for part in proved(events)) == 1
