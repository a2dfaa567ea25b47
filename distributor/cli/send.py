"""`distributor send`: what is planned or due goes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distributor.cli.options import Config, Json, Yes

EXAMPLE = "\b\nexample:\n  distributor send --dry-run look/ && distributor send --limit 5 && distributor send"


def send(
    plan: Annotated[str | None, typer.Argument(metavar="[PLAN]", help="Only this plan; default: everything due.")] = None,
    limit: Annotated[int | None, typer.Option("--limit", metavar="N", min=1, help="At most so many letters.")] = None,
    dry_run: Annotated[
        Path | None, typer.Option("--dry-run", metavar="DIR", help="Write the very letters there as .eml; send nothing.")
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Deferred letters too, before their time.")] = False,
    yes: Yes = False,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Package, compose and send what is planned or due again; asks first."""
    del plan, limit, dry_run, now, yes, chosen, as_json
    return 0
