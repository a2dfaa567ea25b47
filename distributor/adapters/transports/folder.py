"""A folder as a road: each message becomes an `.eml` file, on disk for good before it counts as accepted."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from distributor.errors import InvalidInput
from distributor.files import atomic
from distributor.model.delivery import Account
from distributor.model.issues import Diagnostic
from distributor.model.outcomes import Accepted, Ambiguous, NotSent, OutboundMessage, Outcome
from distributor.model.ports import CommitIntent

_HINT = "check that the folder in `transport.path` exists, is writable and has room"
_PLAIN = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True)
class Settings:
    """`[transport]` of kind folder."""

    path: Path


def open(settings: Settings, accounts: Sequence[Account] = (), *, tell: object = None) -> FolderTransport:  # noqa: A001  every adapter opens
    """The folder, made if it is not there. Raises Unusable when it cannot be."""
    del accounts, tell  # nobody signs in
    try:
        settings.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"the folder cannot be made ({error.strerror})", where=str(settings.path), hint=_HINT) from error
    return FolderTransport(settings.path)


class FolderTransport:
    """One lane is enough for a disk."""

    max_connections = 1
    per_minute: float | None = None
    daily: int | None = None
    attempt_timeout = timedelta(seconds=60)

    def __init__(self, path: Path) -> None:
        self._path = path

    def connection(self, sender: str | None = None) -> FolderConnection:
        """The lane; a folder takes anybody's messages."""
        del sender
        return FolderConnection(self._path)

    def tracker(self) -> None:
        """A folder needs nobody to tell what is in it."""

    async def finish(self, *, settled: bool = True) -> list[Diagnostic]:
        """Nothing is left over."""
        del settled
        return []

    async def check(self) -> list[Diagnostic]:
        """What `doctor` says of it."""
        if os.access(self._path, os.W_OK | os.X_OK):
            return [Diagnostic("transport", "ok", f"messages are written into {self._path}")]
        return [Diagnostic("transport", "error", f"{self._path}: the folder is not writable", _HINT)]


class FolderConnection:
    """Writes beside, then renames: the rename is the point of no return."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def deliver(self, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        """Write one message; see core.ports.Lane."""
        name = f"{_PLAIN.sub('_', message.delivery)}.eml"
        try:
            part = await asyncio.to_thread(atomic.write_atomically, self._path / name, message.message)
        except OSError as error:
            return NotSent(_said(error), fatal=InvalidInput(_said(error), where=str(self._path), hint=_HINT))
        try:
            if not await record_intent():
                return NotSent("another sender holds this message")
            return await asyncio.to_thread(self._publish, part, name)
        finally:
            part.unlink(missing_ok=True)

    def _publish(self, part: Path, name: str) -> Outcome:
        try:
            atomic.publish(part, self._path / name)
        except OSError as error:
            return NotSent(_said(error), fatal=InvalidInput(_said(error), where=str(self._path), hint=_HINT))
        try:
            atomic.sync_folder(self._path)
        except OSError as error:
            return Ambiguous(_said(error))
        return Accepted(f"written to {name}")

    async def close(self) -> None:
        """Nothing is kept open."""


def _said(error: OSError) -> str:
    return f"the message cannot be written ({error.strerror})"
