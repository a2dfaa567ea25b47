"""Whether what a database server has committed stays committed -> what `doctor` says of it.

The note before a message leaves must survive a crash of the server, or the message is sent twice after it.
"""

from __future__ import annotations

from collections.abc import Iterator

from sqlalchemy import Connection, text

from distributor.model.issues import Diagnostic

SESSION = (  # stronger than "on" stays; otherwise nothing that a role or a database sets counts here
    "SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit')"
    " WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false)"
)
_DURABLE = frozenset({"on", "remote_apply"})
_ASK = text(
    "SELECT pg_is_in_recovery(), current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit'),"
    " (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'), current_setting('synchronous_standby_names')"
)
_STANDBYS = text("SELECT count(*), count(*) FILTER (WHERE sync_state IN ('sync', 'quorum')) FROM pg_stat_replication")


def remarks(connection: Connection) -> Iterator[Diagnostic]:
    """What is wrong with a server, or that nothing is."""
    standby, fsync, pages, ours, theirs, names = connection.execute(_ASK).one()
    if standby:
        hint = "name the primary server in `ledger.url`"
        yield Diagnostic("ledger", "error", "the database is a standby server: nothing can be written to it", hint)
        return
    found = [*_settings(fsync, pages, ours), *_replication(connection, names)]
    yield from found
    if theirs not in _DURABLE:
        hint = "nothing to do for distributor, which sets it for itself; check who set it, and why"
        yield Diagnostic(
            "ledger", "warning", f"synchronous_commit is {theirs} for this role or database; distributor writes with {ours}", hint
        )
    if not found:
        yield Diagnostic("ledger", "ok", f"the database server keeps what it commits (fsync on, synchronous_commit {ours})")


def _settings(fsync: str, pages: str, ours: str) -> Iterator[Diagnostic]:
    if fsync != "on":
        hint = "set fsync = on in postgresql.conf and restart the server"
        yield Diagnostic(
            "ledger", "error", "fsync is off: after a crash of the server messages are sent twice, or the ledger is damaged", hint
        )
    if pages != "on":
        hint = "set full_page_writes = on in postgresql.conf and reload the server"
        yield Diagnostic("ledger", "warning", "full_page_writes is off: a power cut may damage the ledger", hint)
    if ours not in _DURABLE:
        hint = "something between distributor and the server, such as a pooler, resets its sessions: connect without it"
        yield Diagnostic("ledger", "error", f"synchronous_commit is {ours} in distributor's own session", hint)


def _replication(connection: Connection, names: str) -> Iterator[Diagnostic]:
    every, sync = connection.execute(_STANDBYS).one()
    if names and not sync:
        hint = "start the standby, or take it out of synchronous_standby_names"
        yield Diagnostic("ledger", "error", f'no synchronous standby is connected ("{names}"): every commit waits for one', hint)
    if every and not names:
        hint = "name a standby in synchronous_standby_names, or after a failover settle what the new primary does not know before sending"
        standbys = f"{every} standby" if every == 1 else f"{every} standbys"
        message = f"{standbys}, none synchronous: a failover loses the last records, and their messages would be sent again"
        yield Diagnostic("ledger", "warning", message, hint)
