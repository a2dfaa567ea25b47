"""Transport into a folder: each message becomes an `.eml` file, durable on disk before it counts as accepted."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from distributor.errors import InvalidInput
from distributor.files import atomic
from distributor.model.delivery import Account
from distributor.model.issues import Diagnostic

if TYPE_CHECKING:
    from distributor.model.attempts import OutboundMessage, Outcome
    from distributor.model.ports import CommitIntent

_HINT = "check that the folder in `transport.path` exists and is writable, and that the disk is not full"
_PLAIN = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True)
class Settings:
    """`[transport]` of kind folder."""

    path: Path


def open(settings: Settings, accounts: Sequence[Account] = (), *, tell: object = None) -> FolderTransport:  # noqa: A001  every adapter has this name
    """The transport; makes the folder. Raises InvalidInput when it cannot."""
    del accounts, tell  # nobody signs in
    try:
        settings.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"cannot create the folder ({error.strerror})", where=str(settings.path), hint=_HINT) from error
    return FolderTransport(settings.path)


class FolderTransport:
    """Writes messages into a folder over one connection, which is enough for a disk."""

    max_connections = 1
    per_minute: float | None = None
    daily: int | None = None
    attempt_timeout = timedelta(seconds=60)

    def __init__(self, path: Path) -> None:
        self._path = path

    def connection(self, sender: str | None = None) -> FolderConnection:
        """The connection, for any sender."""
        del sender
        return FolderConnection(self._path)

    def tracker(self) -> None:
        """None: the answer is always known."""

    async def finish(self, *, settled: bool = True) -> list[Diagnostic]:
        """Nothing to clean up."""
        del settled
        return []

    async def check(self) -> list[Diagnostic]:
        """Whether the folder is writable."""
        if os.access(self._path, os.W_OK | os.X_OK):
            return [Diagnostic("transport", "ok", f"messages are written to {self._path}")]
        return [Diagnostic("transport", "error", f"{self._path}: the folder is not writable", _HINT)]


class FolderConnection:
    """Writes to a temporary file, then renames it: the rename is the point of no return."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def deliver(self, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        """Write one message; see model.ports.Connection."""
        import asyncio  # noqa: PLC0415  every command reads this module's settings, and few send

        from distributor.model.attempts import NotSent  # noqa: PLC0415  likewise

        name = f"{_PLAIN.sub('_', message.delivery)}.eml"
        try:
            part = await asyncio.to_thread(atomic.write_atomically, self._path / name, message.message)
        except OSError as error:
            return NotSent(_reason(error), fatal=InvalidInput(_reason(error), where=str(self._path), hint=_HINT))
        try:
            if not await record_intent():
                return NotSent("another process has claimed this message")
            return await asyncio.to_thread(self._publish, part, name)
        finally:
            part.unlink(missing_ok=True)

    def _publish(self, part: Path, name: str) -> Outcome:
        from distributor.model.attempts import Accepted, Ambiguous, NotSent  # noqa: PLC0415  likewise

        try:
            atomic.publish(part, self._path / name)
        except OSError as error:
            return NotSent(_reason(error), fatal=InvalidInput(_reason(error), where=str(self._path), hint=_HINT))
        try:
            atomic.sync_folder(self._path)
        except OSError as error:
            return Ambiguous(_reason(error))
        return Accepted(f"written to {name}")

    async def close(self) -> None:
        """Nothing is kept open."""


def _reason(error: OSError) -> str:
    return f"cannot write the message ({error.strerror})"
