"""Changes `vault.recipients` in the text of distributor.toml, and nothing else in it."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from typing import Any

_MARK = "\ufeff"  # a byte order mark, as some editors on Windows write it; the loader skips it too
_TABLE = re.compile(r"(?ms)^[ \t]*\[[ \t]*vault[ \t]*\][^\n]*\n(?P<body>.*?)(?=^[ \t]*\[|\Z)")
_LIST = re.compile(r"(?m)^[ \t]*recipients[ \t]*=[ \t]*(?P<list>\[[^\]]*\])")


def as_toml(recipients: Sequence[str]) -> str:
    """The line of distributor.toml."""
    quoted = ", ".join(f'"{key}"' for key in recipients)
    return f"recipients = [{quoted}]"


def with_recipients(text: str, recipients: Sequence[str], replaced: Sequence[str]) -> str | None:
    """The text with these recipients; None where it is written in a way that cannot be changed with certainty.

    A list on several lines keeps its form and its comments where one key takes the place of one of those `replaced`.
    """
    if text.startswith(_MARK):
        changed = with_recipients(text.removeprefix(_MARK), recipients, replaced)
        return None if changed is None else _MARK + changed
    table = _TABLE.search(text)
    found = _LIST.search(text, table.start("body"), table.end("body")) if table else None
    if found is None:
        return None
    written = found["list"]
    old, new = [key for key in replaced if key in written], [key for key in recipients if key not in written]
    one_by_one = written.replace(old[0], new[0]) if old and new else written
    for candidate in (one_by_one, as_toml(recipients).partition("= ")[2]):
        changed = text[: found.start("list")] + candidate + text[found.end("list") :]
        if _is(changed, _parsed(text), recipients):
            return changed
    return None


def _is(changed: str, before: dict[str, Any], recipients: Sequence[str]) -> bool:
    """Whether the changed text differs from the document before in the recipients alone."""
    wanted = {**before, "vault": {**before["vault"], "recipients": list(recipients)}}
    return _parsed(changed) == wanted


def _parsed(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}
