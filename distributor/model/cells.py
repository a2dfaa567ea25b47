"""A cell of a list that cannot be used -> what a message may say of it. Pure.

A cell may hold a password: the delimiter is another one, two cells are swapped, or the list has no header. So a cell is quoted only
where it has the shape of what belongs there, and otherwise described by its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_ADDRESS = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._+-]{0,62}[A-Za-z0-9])?@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,63}")
_UNDOTTED = re.compile(r"[a-z](?:[a-z0-9._+-]{0,62}[a-z0-9])@[a-z]{4,63}")  # anna@exmaple; a password seldom looks so
_BETWEEN = re.compile(r"[\s,;<>]+")
_FILE = re.compile(r".+\.(?:pfx|p12|pem|crt|cer|cert|der|key|p8|pk8|p7b|p7c|zip|txt|pass|pwd)", re.IGNORECASE | re.DOTALL)
LONGEST = 254  # characters of a cell that are looked at


def describe_cell(cell: str) -> str:
    """A cell that is not quoted."""
    return f"({len(cell)} characters)"


def quotable_address(cell: str, others: Iterable[str] = ()) -> bool:
    """Whether a cell may be quoted as an address. Not where another cell of the row could be the address, and this one the password."""
    cell = cell.strip()
    return len(cell) <= LONGEST and bool(_ADDRESS.fullmatch(cell) or _UNDOTTED.fullmatch(cell)) and not any("@" in c for c in others)


def addresses_in(cell: str, others: Iterable[str] = ()) -> list[str]:
    """The addresses that a cell holds in place of one: several of one domain, or one with a person's name before it.

    None where any may be a password: beside an address in another cell, or of another domain.
    """
    if len(cell) > LONGEST or any("@" in other for other in others):
        return []
    words = [word for word in _BETWEEN.split(cell) if "@" in word]
    alone = len(words) == 1 and re.fullmatch(r"[^@<>|;,]*<[^@<>]+@[^@<>]+>", cell.strip()) is not None
    several = all("@" in word for word in _BETWEEN.split(cell) if word) and len({w.rpartition("@")[2].lower() for w in words}) == 1
    return words if (alone or several) and all(map(_ADDRESS.fullmatch, words)) else []


def name_cell(cell: str) -> str:
    """The name of a file as messages show it: quoted where it ends as such files do. What is unprintable is left to the caller."""
    return f'"{cell}"' if _FILE.fullmatch(cell) else describe_cell(cell)
