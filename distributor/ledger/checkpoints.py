"""The checkpoints that the ledger keeps: the events since the last one, a new one, and all of them to be compared with the events."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, bindparam, insert, select

from distributor.errors import InvalidInput
from distributor.ledger import engine
from distributor.ledger.engine import Database
from distributor.ledger.tables import checkpoint, event
from distributor.ledger.transaction import ledger_identity
from distributor.model.audit_log import format_timestamp, parse_timestamp
from distributor.model.checkpoints import (
    ORIGIN,
    Checkpoint,
    CheckpointComparison,
    KnownCheckpoint,
    StoredCheckpoint,
    Tree,
    VerifierKey,
    parse_checkpoints,
    signature_fault,
)

PAGE = 5000  # events of which only the hash is read
_COLUMNS = tuple(checkpoint.c[name] for name in StoredCheckpoint._fields)
_LAST = select(*_COLUMNS).order_by(checkpoint.c.size.desc()).limit(1)
_OF_SIZE = select(*_COLUMNS).where(checkpoint.c.size == bindparam("size"))
_ALL = select(*_COLUMNS).where(checkpoint.c.size > bindparam("last")).order_by(checkpoint.c.size).limit(500)
_HASH = select(event.c.hash).where(event.c.seq == bindparam("seq"))
_HASHES = select(event.c.seq, event.c.hash).where(event.c.seq > bindparam("last")).order_by(event.c.seq).limit(PAGE)


def last(connection: Connection) -> StoredCheckpoint | None:
    """The checkpoint of the most events. Raises InvalidInput where its row makes no sense."""
    row = connection.execute(_LAST).one_or_none()
    return None if row is None else _stored(row)


def _stored(row: Sequence[Any]) -> StoredCheckpoint:
    size, at, note, edge, hash_, token = row
    try:
        hashes = tuple(map(bytes.fromhex, edge.split()))
        note.encode()  # a text
        return StoredCheckpoint(size, parse_timestamp(at), note, hashes, hash_, None if token is None else base64.b64decode(token))
    except (TypeError, AttributeError, ValueError, binascii.Error):
        message = f"the ledger's checkpoint of {size} events was changed"
        raise InvalidInput(message, hint="run `distributor audit verify`") from None


def grow(database: Database, tree: Tree) -> None:
    """Add the events that the ledger has since. Raises InvalidInput where it lacks the event that the tree ends with."""
    if tree.size:
        with database.reading() as connection:
            found = connection.execute(_HASH, {"seq": tree.size}).scalar_one_or_none()
        if found != tree.event:
            message = f"event {tree.size} is not the one that the last checkpoint was signed for"
            raise InvalidInput(message, where=database.where, hint="run `distributor audit verify`")
    for seq, hash_ in engine.paged(database, _HASHES, PAGE, {"last": tree.size}):
        if seq != tree.size + 1:
            message = f"event {tree.size + 1} is missing, so no checkpoint can be signed"
            raise InvalidInput(message, where=database.where, hint="run `distributor audit verify`")
        tree.add(hash_)


def trees(database: Database, sizes: Sequence[int]) -> list[Tree]:
    """The trees of the first so many events, for each size in ascending order."""
    tree, found, left = Tree(), list[Tree](), list(sizes)
    pages = engine.pages(database, _HASHES, PAGE, {"last": 0})
    while left and (page := next(pages, None)) is not None:
        hashes = [hash_ for _, hash_ in page]
        while left and left[0] <= tree.size + len(hashes):
            more = left.pop(0) - tree.size
            tree.extend(hashes[:more])
            found.append(Tree(tree.size, tree.edge, tree.event))
            del hashes[:more]
        tree.extend(hashes)
    return found


def keep(connection: Connection, new: StoredCheckpoint) -> StoredCheckpoint:
    """Keep a checkpoint; the result is the one that is there already, where it is of as many events."""
    if (row := connection.execute(_OF_SIZE, {"size": new.size}).one_or_none()) is not None:
        return _stored(row)
    token = None if new.token is None else base64.b64encode(new.token).decode()
    edge = " ".join(node.hex() for node in new.edge)
    connection.execute(insert(checkpoint), [{**new._asdict(), "at": format_timestamp(new.at), "edge": edge, "token": token}])
    return new


# --- verification ----------------------------------------------------------------------------------------------------


def comparison(database: Database, keys: Sequence[VerifierKey]) -> CheckpointComparison:
    """Compares the chain with every checkpoint of the ledger; those that these keys signed are verified too."""
    known, faults = [], []
    check: Callable[..., bool] | None = None
    with database.reading() as connection:
        identity = ledger_identity(connection)
    origin = ORIGIN + identity.name if identity.fault is None else None  # a fault in the name is found elsewhere
    for row in engine.paged(database, _ALL, 500, {"last": 0}):
        name = f"the ledger's checkpoint of {row[0]} events"
        try:
            stored = _stored(row)
        except InvalidInput as error:
            faults.append(error.message)
            continue
        found = parse_checkpoints(stored.note)
        if len(found) != 1 or not isinstance(found[0], Checkpoint) or found[0].size != stored.size or origin not in {None, found[0].origin}:
            faults.append(f"{name}: its text was changed")
            continue
        known.append(KnownCheckpoint(name, stored.size, found[0].root, stored.edge, stored.event))
        signers = {(signer, id_) for signer, id_, _ in found[0].signatures}
        if signers & {(key.name, key.id) for key in keys}:  # an earlier key's signatures cannot be verified
            check = check or _ed25519()
            faults += [f"{name}: {fault}" for fault in [signature_fault(found[0], keys, check)] if fault]
        faults += _stamp_faults(name, stored)
    return CheckpointComparison(known, faults)


def _stamp_faults(name: str, stored: StoredCheckpoint) -> list[str]:
    if stored.token is None:
        return []
    from distributor.pki import timestamps  # noqa: PLC0415  as below

    try:
        timestamps.verify(stored.token, stored.note.encode())
    except timestamps.BadToken as error:
        return [f"{name}: its time stamp is not valid: {error}"]
    return []


def _ed25519() -> Callable[[bytes, bytes, bytes], bool]:
    from distributor.pki.ed25519 import verify  # noqa: PLC0415  needs cryptography, which most commands do without

    return verify
