"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def _before_or_after(context: typer.Context, value: Path | None) -> Path | None:
    """The file named here, or the one named before the command."""
    return value or context.find_root().params.get("chosen")


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        callback=_before_or_after,
        help="The configuration; otherwise $DISTRIBUTOR_CONFIG or ./distributor.toml.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Answer with one JSON object.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it is kept in the ledger.")]
