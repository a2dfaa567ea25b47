"""Parts of a chain that were proved one by one are joined only where each goes on from the states in which those before it end."""

from __future__ import annotations

from distributor.model.audit_log import ORIGIN, Link, digest
from distributor.model.chain_range import ChainRange, join, prove

PLANNED = [("d-1", None, "planned"), ("d-2", None, "planned"), ("d-1", "planned", "queued")]


def proved(*parts: list[tuple[str, str | None, str]]) -> list[ChainRange | None]:
    """Each part of steps (delivery, state before, state after), proved after those before it; all hashes are right."""
    found, seq, prev = list[ChainRange | None](), 0, ORIGIN
    for steps in parts:
        start, before, links = seq, prev, list[Link]()
        for delivery, state, after in steps:
            seq += 1
            link = Link(seq, "2026-10-01T10:00:00.000000Z", delivery, after, state, after, "me", "{}", None, None, "", "")
            prev = digest(link, prev)
            links.append(link._replace(hash=prev))
        found.append(prove(start, before, [links]))
    return found


def test_parts_that_follow_each_other_end_in_the_states_of_all_their_steps() -> None:
    walk = join(proved(PLANNED, [("d-1", "queued", "claimed"), ("d-2", "planned", "queued")]))
    assert walk is not None
    assert (walk.seq, walk.states) == (5, {"d-1": "claimed", "d-2": "queued"})


def test_a_step_from_another_state_than_the_one_before_is_refused() -> None:
    assert join(proved(PLANNED, [("d-2", "queued", "claimed")])) is None


def test_a_step_of_what_was_never_planned_is_refused() -> None:
    assert join(proved(PLANNED, [("d-3", "planned", "queued")])) is None


def test_a_delivery_that_is_planned_again_is_refused() -> None:
    assert join(proved(PLANNED, [("d-2", None, "planned")])) is None


def test_an_id_with_a_line_feed_is_left_to_the_verifier() -> None:
    assert proved([("d-1\nd-2", None, "planned")]) == [None]
