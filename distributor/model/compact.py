"""Lists, sets and indexes of a hundred thousand entries in a few bytes each, and people in little memory: some microseconds an access."""

from __future__ import annotations

import marshal
import zlib
from array import array
from collections.abc import Callable, Iterator, MutableMapping
from functools import lru_cache
from typing import Any, AnyStr, Generic

from distributor.model.people import Address, Person, RosterRow
from distributor.model.secret import Secret

_BLOCK = 64  # byte strings packed together: they have much in common
_OPEN = 64  # blocks kept as they are
_DIGEST = 16  # bytes
_FREE = -1


class PackedList:
    """Byte strings by number, compressed in blocks. Nothing of it leaves memory."""

    def __init__(self) -> None:
        self._blocks = bytearray()  # one after the other: small pieces of memory between large ones that come and go would stay
        self._ends = array("Q")
        self._last: list[bytes] = []  # what is not in a block yet
        self._changed: dict[int, bytes] = {}  # what was in one and is another now
        self._opened = lru_cache(_OPEN)(self._open)

    def append(self, value: bytes) -> None:
        """Add one at the end."""
        self._last.append(value)
        if len(self._last) == _BLOCK:
            self._blocks += zlib.compress(marshal.dumps(self._last), 1)
            self._ends.append(len(self._blocks))
            self._last.clear()

    def __len__(self) -> int:
        return len(self._ends) * _BLOCK + len(self._last)

    def __getitem__(self, number: int) -> bytes:
        if number in self._changed:
            return self._changed[number]
        block, place = divmod(number, _BLOCK)
        return (self._opened(block) if block < len(self._ends) else self._last)[place]

    def __setitem__(self, number: int, value: bytes) -> None:
        self._changed[number] = value

    def _open(self, block: int) -> list[bytes]:
        begin = self._ends[block - 1] if block else 0
        packed = self._blocks[begin : self._ends[block]]
        found: list[bytes] = marshal.loads(zlib.decompress(packed))  # noqa: S302  our own bytes, which never left this process
        return found


class HashIndex(Generic[AnyStr]):
    """Finds the number of a text or digest in four to eight bytes each. Its owner keeps the values: `value` gives that of a number."""

    def __init__(self, value: Callable[[int], AnyStr]) -> None:
        self._value: Callable[[int], AnyStr] = value
        self._slots = array("i", [_FREE]) * 1024  # a hash table with open addressing; at most two thirds are taken
        self._taken = 0

    def find(self, value: AnyStr) -> int | None:
        """The number of a value, if it was added."""
        number = self._slots[self._slot(value)]
        return None if number == _FREE else number

    def add(self, value: AnyStr, number: int) -> int:
        """Note a value's number, unless it has one; the number that it has."""
        slot = self._slot(value)
        if self._slots[slot] != _FREE:
            return self._slots[slot]
        self._slots[slot] = number
        self._taken += 1
        if 3 * self._taken > 2 * len(self._slots):
            self._grow()
        return number

    def _slot(self, value: AnyStr) -> int:
        """Where a value is, or would be."""
        mask = len(self._slots) - 1
        slot = hash(value) & mask  # seeded anew in every process, so that nobody can make values that meet in one slot
        while (number := self._slots[slot]) != _FREE and self._value(number) != value:
            slot = (slot + 1) & mask
        return slot

    def _grow(self) -> None:
        before = self._slots
        self._slots = array("i", [_FREE]) * (2 * len(before))
        for number in before:
            if number != _FREE:
                self._slots[self._slot(self._value(number))] = number


class Digests:
    """Numbers a set of digests in the order they come, by their first 16 bytes: no two are made alike in these."""

    def __init__(self) -> None:
        self._digests = bytearray()
        self._index = HashIndex(self._digest)

    def __len__(self) -> int:
        return len(self._digests) // _DIGEST

    def number(self, digest: bytes) -> int:
        """The number of a digest; a new one gets the next, which is the length before."""
        known = self._index.find(digest[:_DIGEST])
        if known is not None:
            return known
        self._digests += digest[:_DIGEST]
        return self._index.add(digest[:_DIGEST], len(self) - 1)

    def _digest(self, number: int) -> bytes:
        return bytes(self._digests[number * _DIGEST : (number + 1) * _DIGEST])


class BitSet:
    """A set of small numbers, such as those of people, in a byte each."""

    def __init__(self) -> None:
        self._marked = bytearray()

    def add(self, number: int) -> None:
        """Mark a number."""
        if number >= len(self._marked):
            self._marked.extend(bytes(number + 1 - len(self._marked)))
        self._marked[number] = True

    def __contains__(self, number: int) -> bool:
        return number < len(self._marked) and bool(self._marked[number])


# --- packed people --------------------------------------------------------------------------------
#
# A dictionary of people by `Address.key` that takes little memory: a roster may have 100 000, and a Person takes a kilobyte.


_UNPACKED = 512  # people in the cache: those whose files are being opened are looked up often


class PackedPeople(MutableMapping[str, Person]):
    """A dictionary in the order of insertion. It stays in memory, since it contains passwords."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._rows = PackedList()
        self._shared: dict[Any, int] = {}  # what many people have in common: names of columns, names of lists
        self._known: list[Any] = []  # the same by number
        self._unpacked = lru_cache(_UNPACKED)(self._unpack)

    def number(self, key: str) -> int:
        """A small number that stands for a person. Raises KeyError."""
        return self._numbers[key]

    def __getitem__(self, key: str) -> Person:
        return self._unpacked(self._rows[self._numbers[key]])

    def __setitem__(self, key: str, person: Person) -> None:
        packed = self._pack(person)
        if key in self._numbers:
            self._rows[self._numbers[key]] = packed
        else:
            self._numbers[key] = len(self._rows)
            self._rows.append(packed)

    def __delitem__(self, key: str) -> None:
        self._rows[self._numbers.pop(key)] = b""

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, key: object) -> bool:
        return key in self._numbers

    def _pack(self, person: Person) -> bytes:
        rows = () if person.hint is None else (person.hint, *person.more_rows)
        return marshal.dumps(
            (
                (person.address.local, person.address.domain),
                (person.name, person.language, person.phone, person.manager, person.alternate_email),
                self._share(tuple(person.columns)),
                tuple(person.columns.values()),
                tuple(self._pack_row(hint) for hint in rows),
            )
        )

    def _pack_row(self, hint: RosterRow) -> tuple[int, int, str, str, str | None, str]:
        password = None if hint.password is None else hint.password.reveal()
        return self._share(hint.source), hint.line, hint.file, hint.key, password, hint.password_file

    def _share(self, value: object) -> int:
        if value not in self._shared:
            self._shared[value] = len(self._known)
            self._known.append(value)
        return self._shared[value]

    def _unpack(self, packed: bytes) -> Person:
        address, details, names, cells, rows = marshal.loads(packed)  # noqa: S302  our own bytes, which never left this process
        hints = tuple(_row(self._known[source], *row) for source, *row in rows)
        columns = dict(zip(self._known[names], cells, strict=True))
        return Person(Address(*address), *details, columns, hints[0] if hints else None, hints[1:])  # type: ignore[call-arg]  # five of them


def _row(source: str, line: int, file: str, key: str, password: str | None, password_file: str) -> RosterRow:  # noqa: PLR0913, PLR0917  its fields
    return RosterRow(source, line, file, key, None if password is None else Secret(password), password_file)
