"""Options that several commands share.

A path is checked by the command, not by typer, which calls an unreadable file a usage error; here it is invalid input (exit 3).
`readable=False` in every declaration of a path turns typer's check off.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from distributor.errors import InvalidInput


def _before_or_after(context: typer.Context, value: Path | None) -> Path | None:
    """The configuration named after the command, else the one named before it."""
    return value or context.find_root().params.get("chosen")


def is_folder(path: Path) -> bool:
    """Whether it is a folder that this user can see. `Path.is_dir` raises PermissionError inside a folder that cannot be entered."""
    return os.path.isdir(path)  # noqa: PTH112  never raises


def listable(value: Path | None) -> Path | None:
    """A folder of passwords must be listable, since files are looked up by name. Raises InvalidInput."""
    if value is not None and is_folder(value) and not os.access(value, os.R_OK | os.X_OK):
        raise InvalidInput("permission denied", where=str(value), hint="name a folder that you may read")
    return value


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        callback=_before_or_after,
        readable=False,
        help="The configuration; otherwise $DISTRIBUTOR_CONFIG or ./distributor.toml.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON object.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept in the ledger.")]
