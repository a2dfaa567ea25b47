"""Resolves names in a roster to paths, never outside the roster's folder and never through a link."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator

from distributor.model.cells import name_cell
from distributor.model.people import escape_unsafe


class Unsafe(Exception):
    """A name that leaves the roster's folder; the text says why."""


def inside(base: str | None, name: str, known: bool = False) -> str | None:  # noqa: FBT001, FBT002  a name among the sources needs no path
    """The absolute path of a name below `base`. Raises Unsafe when it leaves it, unless it is absolute and `known` as a name."""
    name = name.strip().replace("\\", "/")
    plain = posixpath.normpath(name)
    if "\0" in name:
        raise Unsafe("the name holds a NUL byte")
    if plain == ".." or plain.startswith("../"):
        raise Unsafe(f"{escape_unsafe(name_cell(name))} leaves the folder of the roster")
    if base is None:
        return None if not plain.startswith("/") else plain
    path = os.path.normpath(os.path.join(base, plain))
    if path != base and not path.startswith(base.rstrip("/") + "/"):
        if known:
            return None
        raise Unsafe(f"{escape_unsafe(name_cell(name))} is outside the folder of the roster")
    return path


def steps(base: str | None, path: str) -> Iterator[str]:
    """The path of each folder below the roster's, and of the file itself. Raises Unsafe at the first link, wherever that leads."""
    walked = base = base or "/"
    for step in os.path.relpath(path, base).split("/"):
        walked = os.path.join(walked, step)
        if os.path.islink(walked):
            raise Unsafe(f"{escape_unsafe(name_cell(os.path.relpath(walked, base)))} is a link")
        yield walked
