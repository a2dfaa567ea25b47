"""Options that several commands share, and what they have in common: a path is looked at by the command itself, not by typer.

typer calls a file that may not be read a usage error; to us it is input that cannot be used, and each command says so with its place.
`readable=False` in every declaration of a path turns typer's look off.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from distributor.errors import InvalidInput


def _before_or_after(context: typer.Context, value: Path | None) -> Path | None:
    """The file named here, or the one named before the command."""
    return value or context.find_root().params.get("chosen")


def is_folder(path: Path) -> bool:
    """Whether it is one, as far as this user may know: `Path.is_dir` raises PermissionError below a folder that cannot be entered."""
    return os.path.isdir(path)  # noqa: PTH112  never raises


def listable(value: Path | None) -> Path | None:
    """A folder whose files are looked for by name must let itself be looked into. Raises Unusable."""
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
