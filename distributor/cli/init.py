"""`distributor init`: a new workspace."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from distributor.cli.options import Config
from distributor.cli.show import foreign, say, tell

EXAMPLE = "\b\nexample:\n  distributor init mailing && cd mailing"


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where; default: here.")] = Path(),
    chosen: Config = None,
) -> None:
    """Make a workspace: configuration, ledger and the vault's key.

    Nothing that exists is overwritten, and nothing half-made is left behind.
    """
    from distributor.cli import workspace

    del chosen  # accepted everywhere
    workspace.create(folder)
    for name, what in (
        (workspace.CONFIG, "the configuration; its comments say what to change"),
        (workspace.LEDGER, "the ledger, empty"),
        (workspace.KEY, "opens the passwords: keep a copy in a safe place"),
    ):
        tell(f"{foreign(folder / name)}  {what}")
    elsewhere = "" if folder.resolve() == Path.cwd() else f"cd {foreign(folder)}; "
    say(f"next: {elsewhere}edit {workspace.CONFIG}, then distributor doctor")
