"""A dictionary of people by `Address.key` that takes little memory: a roster may have 100 000, and a Person takes a kilobyte."""

from __future__ import annotations

import marshal
from collections.abc import Iterator, MutableMapping
from functools import lru_cache
from typing import Any

from distributor.model.compact import PackedList
from distributor.model.people import Address, Person, RosterRow
from distributor.model.secret import Secret

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
