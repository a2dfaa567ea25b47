"""A PostgreSQL database -> which of the triggers that keep events from being changed are missing or were weakened.

For a role that may not make a schema to compare the whole with (`layout.py`). The texts are those of `migrations/`, as the server tells
them; a test holds the two together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from sqlalchemy import Connection, text

_KEPT = ("seq", "at", "delivery", "event", "before", "after", "by", "evidence", "commitment", "hash")
SO = ", so events could be changed or removed"
_BODY = "BEGIN RAISE EXCEPTION USING MESSAGE = 'an event is never changed or removed'; END"
_UNTOUCHED = " AND ".join(f"NOT new.{c} IS DISTINCT FROM old.{c}" for c in _KEPT)
_POSTGRESQL = {
    "event_is_kept": "BEFORE UPDATE ON event FOR EACH ROW "
    f"WHEN NOT {_UNTOUCHED} AND new.personal IS NULL AND new.salt IS NULL EXECUTE FUNCTION event_is_never_changed",
    "event_is_never_removed": "BEFORE DELETE ON event FOR EACH ROW EXECUTE FUNCTION event_is_never_changed",
    "event_is_never_emptied": "BEFORE TRUNCATE ON event FOR EACH STATEMENT EXECUTE FUNCTION event_is_never_changed",
}
_ASK_POSTGRESQL = text(
    "SELECT t.tgname, t.tgenabled IN ('O', 'A'), pg_get_triggerdef(t.oid, true), p.prosrc "
    "FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE t.tgrelid = 'event'::regclass AND NOT t.tgisinternal"
)


def faults(connection: Connection) -> Iterator[str]:
    """Everything that is wrong with them."""
    found = _on_server(connection)
    for name, definition in _POSTGRESQL.items():
        if name not in found:
            yield f'trigger "{name}": is gone{SO}'
        elif found[name] != definition:
            yield f'trigger "{name}": is switched off or another one{SO}'


def _on_server(connection: Connection) -> dict[str, str]:
    """What is switched off, or calls another function, has no definition."""
    rows = connection.execute(_ASK_POSTGRESQL)
    return {name: _plain(definition) if enabled and body == _BODY else "" for name, enabled, definition, body in rows}


def _plain(definition: str) -> str:
    """The server's own writing of a trigger without parentheses, quotes, schema and name."""
    words = re.sub(r'[()"]', " ", definition).split()
    place = words.index("ON") + 1
    words[place] = words[place].rpartition(".")[2]
    return " ".join(words[3:])
