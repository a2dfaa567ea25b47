"""`distributor audit`: evidence, exported and verified."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from distributor.cli.options import Config, Json

app = typer.Typer(help="Evidence of everything that happened.", no_args_is_help=True)


class Format(StrEnum):
    """How an export is written."""

    JSONL = "jsonl"
    CSV = "csv"


@app.command(epilog="\b\nexample:\n  distributor audit export --format csv --output evidence.csv")
def export(
    output: Annotated[Path, typer.Option("--output", metavar="FILE", help="Where to; written whole or not at all.")],
    form: Annotated[Format, typer.Option("--format", help="JSON Lines can be verified later; CSV is for tables.")] = Format.JSONL,
    chosen: Config = None,
) -> None:
    """Write every event, oldest first, personal fields opened."""
    del output, form, chosen


@app.command(epilog="\b\nexample:\n  distributor audit verify evidence.jsonl")
def verify(
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="An export in JSON Lines; default: the ledger itself.")] = None,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Check the chain of events, and every state against its events."""
    del file, chosen, as_json
    return 0
