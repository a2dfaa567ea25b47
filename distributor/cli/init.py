"""`distributor init`: makes a workspace, or the ledger that one lacks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config
from distributor.cli.render import escape, stderr_line, stdout_line

if TYPE_CHECKING:
    from distributor.config import Settings

EXAMPLE = "\b\nexample:\n  distributor init mailing && cd mailing"


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", readable=False, help="Where; default: here.")] = Path(),
    chosen: Config = None,
) -> None:
    """Make a workspace: configuration, ledger and the vault's key.

    Where only the ledger is missing, only that is made. Nothing that exists is overwritten, and nothing half-made is left behind.
    """
    from distributor.cli import workspace

    config = chosen if chosen is not None and folder == Path() else folder / workspace.CONFIG
    if config.is_file() and (settings := workspace.complete(config)):
        _completed(config, settings)
        return
    workspace.create(folder)
    for name, what in (
        (workspace.CONFIG, "the configuration; its comments say what to change"),
        (workspace.LEDGER, "the ledger, empty"),
        (workspace.KEY, "opens the passwords: keep a copy in a safe place"),
    ):
        stdout_line(f"{escape(folder / name)}  {what}")
    _next(folder, f"edit {workspace.CONFIG}, then distributor doctor")


def _completed(config: Path, settings: Settings) -> None:
    """What was made, and what was not."""
    from distributor import bootstrap

    identity, ledger = settings.vault.identity, bootstrap.ledger_file(settings) or "ledger.url"
    stdout_line(f"{escape(config)}  the configuration, kept as it is")
    stdout_line(f"{escape(ledger)}  the ledger, new and empty: what was sent before is not in it")
    if identity is not None and identity.path is not None and not os.path.lexists(identity.path):
        stderr_line(
            f"warning: {escape(identity.path)} is missing and not made anew: only the old one opens what is sealed for vault.recipients"
        )
        stderr_line("hint: restore it from its copy")
    stderr_line(
        "where there is a backup of the ledger, put it in the place of the empty one before anything is sent: it knows who has a message"
    )
    stderr_line("hint: docs/restore.md says how")
    _next(config.parent, "distributor doctor")


def _next(folder: Path, what: str) -> None:
    elsewhere = "" if folder.resolve() == Path.cwd() else f"cd {escape(folder)}; "
    stderr_line(f"next: {elsewhere}{what}")
