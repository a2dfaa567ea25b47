"""Decides whether an error message may quote a cell of a roster. Pure.

Any cell may be a password, since the delimiter may be another one, two cells may be swapped, or the header may be missing. So a cell is
quoted only where it looks like what belongs there, and otherwise described by its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_ADDRESS = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._+-]{0,62}[A-Za-z0-9])?@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,63}")
_UNDOTTED = re.compile(r"[a-z](?:[a-z0-9._+-]{0,62}[a-z0-9])@[a-z]{4,63}")  # anna@exmaple; a password seldom looks so
_BETWEEN = re.compile(r"[\s,;<>]+")
_FILE = re.compile(r".+\.(?:pfx|p12|pem|crt|cer|cert|der|key|p8|pk8|p7b|p7c|zip|txt|pass|pwd)", re.IGNORECASE | re.DOTALL)
LONGEST = 254  # characters; longer cells are not quoted


def describe_cell(cell: str) -> str:
    """The description of a cell that is not quoted."""
    return f"({len(cell)} characters)"


def quotable_address(cell: str, others: Iterable[str] = ()) -> bool:
    """Whether a cell may be quoted as an address. Not where another cell of the row could be the address, and this one the password."""
    cell = cell.strip()
    return len(cell) <= LONGEST and bool(_ADDRESS.fullmatch(cell) or _UNDOTTED.fullmatch(cell)) and not any("@" in c for c in others)


def addresses_in(cell: str, others: Iterable[str] = ()) -> list[str]:
    """The addresses in a cell that should have one: several of the same domain, or one with a person's name before it.

    Empty where one of them may be a password: another cell has an address too, or the domains differ.
    """
    if len(cell) > LONGEST or any("@" in other for other in others):
        return []
    words = [word for word in _BETWEEN.split(cell) if "@" in word]
    alone = len(words) == 1 and re.fullmatch(r"[^@<>|;,]*<[^@<>]+@[^@<>]+>", cell.strip()) is not None
    several = all("@" in word for word in _BETWEEN.split(cell) if word) and len({w.rpartition("@")[2].lower() for w in words}) == 1
    return words if (alone or several) and all(map(_ADDRESS.fullmatch, words)) else []


def name_cell(cell: str) -> str:
    """A file name for messages: quoted where its extension is a known one, else described. The caller escapes unprintable characters."""
    return f'"{cell}"' if _FILE.fullmatch(cell) else describe_cell(cell)
