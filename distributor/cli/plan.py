"""`distributor plan`: certificates and people -> a plan in the ledger. Sends nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distributor.cli.options import Config, Json

EXAMPLE = "\b\nexample:\n  distributor plan certificates/ --roster people.csv --passwords passwords.csv"


def plan(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(metavar="SOURCE", help="A .pfx/.p12, a folder, a flat .zip, PEM pairs; default: [[sources]]."),
    ] = None,
    roster: Annotated[
        Path | None, typer.Option("--roster", metavar="FILE", help="People as CSV; without one, each certificate's own address.")
    ] = None,
    passwords: Annotated[
        Path | None, typer.Option("--passwords", metavar="PATH", help="Passwords of the files: a CSV, or a folder of <stem>.txt.")
    ] = None,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Check certificates and people, and record who is to get what.

    Sends nothing. What is wrong is told with file, line and a way out; the good ones go on.
    """
    del sources, roster, passwords, chosen, as_json
    return 0
