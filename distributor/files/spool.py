"""Keeps a long list of values out of memory: in a temporary file without a name, which only this process can read.

A secret is not pickled, so none can get there.
"""

from __future__ import annotations

import pickle
import struct
import tempfile
from collections.abc import Iterator
from itertools import islice
from typing import IO, Generic, TypeVar

from distributor.errors import InvalidInput

Value = TypeVar("Value")
_IN_MEMORY = 500  # values; a short list needs no file
_HEAD = struct.Struct(">Q")


class FileSpool(Generic[Value]):
    """An append-only list. Raises InvalidInput when the disk is full."""

    def __init__(self) -> None:
        self._fresh: list[Value] = []
        self._written = 0  # values in the file
        self._file: IO[bytes] | None = None

    def append(self, value: Value) -> None:
        """Add a value."""
        self._fresh.append(value)
        if len(self._fresh) == _IN_MEMORY:
            self._write()

    def __len__(self) -> int:
        return self._written + len(self._fresh)

    def __iter__(self) -> Iterator[Value]:
        place = 0
        while self._file is not None:
            self._file.seek(place)
            head = self._file.read(_HEAD.size)
            if not head:
                break
            frame = self._file.read(_HEAD.unpack(head)[0])
            place += len(head) + len(frame)
            yield from pickle.loads(frame)  # noqa: S301  what this very process wrote into a file that nobody else can open
        yield from self._fresh

    def __getitem__(self, index: int) -> Value:
        """One value, found by reading from the beginning."""
        return next(islice(self, index, None))

    def _write(self) -> None:
        frame = pickle.dumps(self._fresh, pickle.HIGHEST_PROTOCOL)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115  closed with this object
            self._file.seek(0, 2)
            self._file.write(_HEAD.pack(len(frame)) + frame)
            self._file.flush()
        except OSError as error:
            hint = "free some space there, or set $TMPDIR to another folder"
            raise InvalidInput((error.strerror or "cannot be written").lower(), where=tempfile.gettempdir(), hint=hint) from None
        self._written += len(self._fresh)
        self._fresh.clear()

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()


class DiscardedList(list[Value]):
    """A list that keeps nothing, for values that were reported already."""

    def append(self, value: Value) -> None:
        """Discard the value."""
