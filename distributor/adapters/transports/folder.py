"""A folder as a road: each letter becomes an `.eml` file, on disk for good before it counts as accepted."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from distributor.errors import Unusable
from distributor.files import atomic
from distributor.model.delivery import Account
from distributor.model.issues import Remark
from distributor.model.outcomes import Accepted, Ambiguous, Outcome, Parcel, Unsent
from distributor.model.ports import ArmCall

_HINT = "check that the folder in `transport.path` exists, is writable and has room"
_PLAIN = re.compile(r"[^A-Za-z0-9._-]")


@dataclass(frozen=True)
class Settings:
    """`[transport]` of kind folder."""

    path: Path


def open(settings: Settings, accounts: Sequence[Account] = (), *, tell: object = None) -> Folder:  # noqa: A001  every adapter opens
    """The folder, made if it is not there. Raises Unusable when it cannot be."""
    del accounts, tell  # nobody signs in
    try:
        settings.path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise Unusable(f"the folder cannot be made ({error.strerror})", where=str(settings.path), hint=_HINT) from error
    return Folder(settings.path)


class Folder:
    """One lane is enough for a disk."""

    lanes = 1
    per_minute: float | None = None
    daily: int | None = None
    longest_wait = timedelta(seconds=60)

    def __init__(self, path: Path) -> None:
        self._path = path

    def lane(self, sender: str | None = None) -> FolderLane:
        """The lane; a folder takes anybody's letters."""
        del sender
        return FolderLane(self._path)

    def tracker(self) -> None:
        """A folder needs nobody to tell what is in it."""

    async def finish(self, *, settled: bool = True) -> list[Remark]:
        """Nothing is left over."""
        del settled
        return []

    async def check(self) -> list[Remark]:
        """What `doctor` says of it."""
        if os.access(self._path, os.W_OK | os.X_OK):
            return [Remark("transport", "ok", f"letters are written into {self._path}")]
        return [Remark("transport", "error", f"{self._path}: the folder is not writable", _HINT)]


class FolderLane:
    """Writes beside, then renames: the rename is the point of no return."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def deliver(self, parcel: Parcel, arm: ArmCall) -> Outcome:
        """Write one letter; see core.ports.Lane."""
        name = f"{_PLAIN.sub('_', parcel.delivery)}.eml"
        try:
            part = await asyncio.to_thread(atomic.write, self._path / name, parcel.message)
        except OSError as error:
            return Unsent(_said(error), stop=Unusable(_said(error), where=str(self._path), hint=_HINT))
        try:
            if not await arm():
                return Unsent("another sender holds this letter")
            return await asyncio.to_thread(self._publish, part, name)
        finally:
            part.unlink(missing_ok=True)

    def _publish(self, part: Path, name: str) -> Outcome:
        try:
            atomic.appear(part, self._path / name)
        except OSError as error:
            return Unsent(_said(error), stop=Unusable(_said(error), where=str(self._path), hint=_HINT))
        try:
            atomic.flush(self._path)
        except OSError as error:
            return Ambiguous(_said(error))
        return Accepted(f"written to {name}")

    async def close(self) -> None:
        """Nothing is kept open."""


def _said(error: OSError) -> str:
    return f"the letter cannot be written ({error.strerror})"
