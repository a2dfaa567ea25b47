"""How far each mailbox was read. No event tells of it: what a mail led to has events of its own."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, insert, select, update

from distributor.ledger.tables import mailbox

_READ = select(mailbox.c.position).where(mailbox.c.name == bindparam("b_name"))
_REPLACE = update(mailbox).where(mailbox.c.name == bindparam("b_name")).values(position=bindparam("b_position"))


def read(connection: Connection, name: str) -> str | None:
    """The position of a mailbox, if it was ever read."""
    return connection.execute(_READ, {"b_name": name}).scalar_one_or_none()


def write(connection: Connection, name: str, position: str) -> None:
    """Insert or replace a position."""
    if not connection.execute(_REPLACE, {"b_name": name, "b_position": position}).rowcount:
        connection.execute(insert(mailbox), {"name": name, "position": position})
