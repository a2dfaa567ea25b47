"""A person's word, or evidence found later -> an ambiguous delivery settled, or a delivery taken back."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, select

from distributor.core.chain import unstamp
from distributor.core.deliveries import Attempt, Scope
from distributor.core.states import EDGES, PasswordState, State
from distributor.errors import Refused
from distributor.ledger import book as door
from distributor.ledger.chain import Writing, words
from distributor.ledger.reading import DELIVERIES, to_delivery
from distributor.ledger.scope import within
from distributor.ledger.tables import delivery, handover, owner

_PERSONAL = frozenset({"reason", "said", "address", "name"})  # free text often holds names and addresses
_AMBIGUOUS = (
    DELIVERIES.add_columns(owner.c.id, owner.c.host, owner.c.pid, owner.c.started, delivery.c.armed_at)
    .outerjoin(owner, owner.c.id == delivery.c.owner)
    .where(delivery.c.state == State.AMBIGUOUS.value)
    .order_by(delivery.c.id)
)


def ambiguous(connection: Connection, scope: Scope) -> list[Attempt]:
    """Every ambiguous delivery with who tried last, and since when nobody knows."""
    found = []
    for row in connection.execute(within(_AMBIGUOUS, scope)):
        id_, host, pid, started, armed = row[-5:]
        who = None if id_ is None else door.owner_of(id_, host, pid, started)
        found.append(Attempt(to_delivery(row[:-5]), who, None if armed is None else unstamp(armed)))
    return found


def resolve(book: Writing, delivery_id: str, state: State, evidence: Mapping[str, object]) -> None:
    """Settle an ambiguous delivery."""
    row = door.row(book, delivery_id)
    if row["state"] != State.AMBIGUOUS:
        raise Refused(f"it is {row['state']}, not ambiguous", where=delivery_id, hint="`distributor resolve` lists what is ambiguous")
    if state is State.QUEUED:
        _refuse_unopenable(book, delivery_id)
    told = {key: words(value) if isinstance(value, str) else value for key, value in evidence.items()}
    public = {"attempt": row["attempt"], **{k: v for k, v in told.items() if k not in _PERSONAL}}
    personal = {k: v for k, v in told.items() if k in _PERSONAL}
    columns = {"owner": None, "lease_until": None, "armed_at": None, "not_before": None}
    door.move(book, [door.Change(row, state, columns, public, personal)])


def _refuse_unopenable(book: Writing, delivery_id: str) -> None:
    """A letter whose password is gone would reach a person who can never open it."""
    state = book.connection.execute(select(handover.c.state).where(handover.c.delivery == delivery_id)).scalar_one_or_none()
    if state == PasswordState.DESTROYED:
        hint = f"take it back: distributor withdraw {delivery_id} --reason TEXT"
        raise Refused("the letter was replaced and its password is destroyed, so nobody could open it", where=delivery_id, hint=hint)


def withdraw(book: Writing, delivery_id: str, reason: str) -> None:
    """Take a delivery back."""
    row = door.row(book, delivery_id)
    if State.WITHDRAWN not in EDGES[State(row["state"])]:
        hint = (
            "wait until `distributor send` is done"
            if row["state"] in {"claimed", "transmitting"}
            else "`distributor history` shows what happened to it"
        )
        raise Refused(f"it is {row['state']} and cannot be taken back", where=delivery_id, hint=hint)
    columns = {"owner": None, "lease_until": None, "armed_at": None, "not_before": None}
    door.move(book, [door.Change(row, State.WITHDRAWN, columns, {}, {"reason": words(reason)})])
