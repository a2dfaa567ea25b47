"""Letters about to be claimed -> refused, all of them, when one in the outbox is not what its events tell (facts: reliability.md 1).

An envelope is never taken from a row alone: address, sender and bytes stand in the event that froze the letter, and that is on the chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from sqlalchemy import RowMapping, Select, or_, select

from distributor.core.states import State
from distributor.errors import Unusable
from distributor.ledger import book as door
from distributor.ledger import prepared
from distributor.ledger.chain import Writing
from distributor.ledger.comparing import fields, letter_faults, person_faults
from distributor.ledger.tables import event
from distributor.ledger.telling import COLUMNS, Step, Told, fold

Letter = RowMapping  # a delivery's row with `sender`, `address`, `outbox_message_id`, `message`, `person_key` and `person_address`


def refuse_changed(book: Writing, letters: Sequence[Letter]) -> None:
    """Raise Unusable for the first letter that was changed from outside."""
    told = _told(book, [letter["id"] for letter in letters])
    for letter in letters:
        changed = _changed(letter, told[letter["id"]])
        if changed:
            raise _refusal(letter["id"], changed)


def _told(book: Writing, ids: Sequence[str]) -> dict[str, Told]:
    steps: dict[str, list[Step]] = {id_: [] for id_ in ids}
    for start in range(0, len(ids), door.CHUNK):
        room, values = prepared.listed(ids[start : start + door.CHUNK])
        for row in book.all(_telling(room), values):
            steps[row[0]].append(Step(*row))
    return {id_: fold(theirs) for id_, theirs in steps.items()}


@cache
def _telling(room: int) -> Select[Any]:
    """Planned, frozen, and at each attempt perhaps given another Message-ID by a service."""
    tells = or_(event.c.before.is_(None), event.c.before == State.PLANNED.value, event.c.after == State.TRANSMITTING.value)
    return select(*COLUMNS).where(prepared.one_of(event.c.delivery, room), tells).order_by(event.c.seq)


def _changed(letter: Letter, told: Told) -> str:
    """The names of what was changed; empty when all is well."""
    place = ("person_key", "sender", "address", "outbox_message_id", "message")
    found = list(letter_faults(told, *(letter[name] for name in place)))
    found += person_faults(letter["person_key"], letter["person_address"], told)
    names = fields(found)
    if letter["message_id"] != told.row.get("message_id"):
        names = f"{names}, message_id".removeprefix(", ")
    return names


def _refusal(delivery_id: str, changed: str) -> Unusable:
    return Unusable(
        f"the ledger was changed from outside ({changed}), so this letter is not sent",
        where=delivery_id,
        hint=f"`distributor audit verify` says what was changed; take the letter back: distributor withdraw {delivery_id} --reason TEXT",
    )
