"""Which account of an OpenID provider belongs to which person, and the portal's sessions."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, Connection, bindparam, delete, func, insert, or_, select, update

from distributor.errors import RequestDenied
from distributor.ledger import engine
from distributor.ledger.tables import account, delivery, person, session
from distributor.ledger.transaction import NewEvent, WriteTransaction
from distributor.model.audit_log import canonical, format_timestamp, parse_timestamp
from distributor.model.requests import PORTAL_PREFIX, SignInAccount, StoredSession

BOUND = "bound"  # the event
_PERSON_OF = (
    select(person.c.address)
    .join(account, account.c.person == person.c.id)
    .where(account.c.issuer == bindparam("issuer"), account.c.subject == bindparam("subject"))
)
_OF_KEY = (
    select(person.c.id, person.c.address, func.max(delivery.c.id))
    .join(delivery, delivery.c.person == person.c.id)
    .where(person.c.key == bindparam("key"))
    .group_by(person.c.id, person.c.address)
)
_TAKEN = select(account.c.person).where(
    account.c.issuer == bindparam("issuer"), or_(account.c.subject == bindparam("subject"), account.c.person == bindparam("person"))
)
_PEOPLE_OF = select(account.c.person).where(account.c.subject == bindparam("subject"))


def person_of(connection: Connection, who: SignInAccount) -> str | None:
    """The address of an account's person."""
    return connection.execute(_PERSON_OF, {"issuer": who.issuer, "subject": who.subject}).scalar_one_or_none()


def bind(tx: WriteTransaction, who: SignInAccount, key: str, how: str) -> None:
    """Bind an account to a person, for good. `key`: their Address.key. Raises RequestDenied."""
    found = tx.connection.execute(_OF_KEY, {"key": key}).one_or_none()
    if found is None:
        raise RequestDenied("nobody in the ledger has this address", where=key, hint="run `distributor plan` for this person first")
    id_, address, newest = found
    place = {"issuer": who.issuer, "subject": who.subject}
    if tx.connection.execute(_TAKEN, {**place, "person": id_}).first() is not None:
        raise RequestDenied("the account or the person is bound already", where=key, hint="see `distributor history ADDRESS`")
    tx.connection.execute(insert(account), {**place, "person": id_, "how": how, "at": tx.now})
    personal: dict[str, object] = {"address": address, "subject": who.subject}
    tx.append([NewEvent(newest, BOUND, evidence={"how": how, "issuer": who.issuer}, personal=personal)])


def may_ask(tx: WriteTransaction, who: str) -> bool:
    """Whether whoever writes may ask for this person's certificates: the helpdesk for all, an account of the portal for its person."""
    return not tx.by.startswith(PORTAL_PREFIX) or who in _people(tx, tx.by)


def is_same_person(tx: WriteTransaction, requester: str, who: str) -> bool:
    """Whether whoever writes is the requester, also under another name, or the person `who` whose certificate it is."""
    own = _people(tx, tx.by)
    return _login(tx.by) == _login(requester) or who in own or not own.isdisjoint(_people(tx, requester))


def _login(by: str) -> str:
    """The user's name of `by`: one person has the same on several machines, and Windows and directories do not compare case."""
    return by if by.startswith(PORTAL_PREFIX) else by.partition("@")[0].strip().casefold()


def _people(tx: WriteTransaction, by: str) -> set[str]:
    """The people to whom an account of the portal is bound; several where several issuers use the same subject."""
    if not by.startswith(PORTAL_PREFIX):
        return set()
    return set(tx.connection.execute(_PEOPLE_OF, {"subject": by.removeprefix(PORTAL_PREFIX)}).scalars())


def with_column(connection: Connection, column: str, value: str) -> list[str]:
    """Addresses of people whose roster had this value in a further column; neither name nor value is compared by case."""
    asked = select(person.c.address, person.c.columns).where(person.c.columns != "").order_by(person.c.address)
    if value.isascii():  # SQLite lowers nothing else
        asked = asked.where(func.lower(person.c.columns).contains(canonical(value.lower()), autoescape=True))
    wanted = column.casefold(), value.casefold()
    return [address for address, columns in connection.execute(asked) if wanted in _folded(columns)]


def _folded(columns: str) -> set[tuple[str, str]]:
    return {(name.casefold(), str(value).casefold()) for name, value in json.loads(columns).items()}


# --- sessions --------------------------------------------------------------------------------------------------------

_SESSION = select(session).where(session.c.token == bindparam("token"))
_REPLACE = update(session).where(session.c.token == bindparam("b_token")).values({n: bindparam(n) for n in ("created", "seen", "data")})


def read_session(connection: Connection, token: str) -> StoredSession | None:
    """A session by the hash of its token."""
    rows = engine.all_rows(connection, _SESSION, {"token": token})
    return None if not rows else StoredSession(rows[0][0], parse_timestamp(rows[0][1]), parse_timestamp(rows[0][2]), rows[0][3])


def write_session(connection: Connection, given: StoredSession) -> None:
    """Insert or replace a session."""
    columns = {"created": format_timestamp(given.created), "seen": format_timestamp(given.seen), "data": given.data}
    if not engine.many(connection, _REPLACE, [{"b_token": given.token, **columns}]):
        connection.execute(insert(session), {"token": given.token, **columns})


def touch_session(connection: Connection, token: str, seen: datetime) -> None:
    """Note that a session is in use, unless it was deleted."""
    connection.execute(update(session).where(session.c.token == token).values(seen=format_timestamp(seen)))


def end_sessions(connection: Connection, tokens: Sequence[str], before: datetime | None, idle_since: datetime | None) -> int:
    """Delete sessions: these, those created before, those not seen since; how many."""
    over: list[ColumnElement[bool]] = [session.c.token.in_(part) for part in engine.chunks(tokens)]
    if before is not None:
        over.append(session.c.created < format_timestamp(before))
    if idle_since is not None:
        over.append(session.c.seen < format_timestamp(idle_since))
    return sum(connection.execute(delete(session).where(each)).rowcount for each in over)
