"""`distributor templates export`: copies the packaged message templates into the workspace, to be changed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from distributor.cli.options import Config
from distributor.cli.render import escape, stderr_line, stdout_line
from distributor.errors import InvalidInput

app = typer.Typer(help="Export the message templates.", no_args_is_help=True)
REQUEST = "request"  # the folder of phrases that ask for another copy by mail


@app.command(epilog="\b\nexample:\n  distributor templates export --language de")
def export(
    language: Annotated[list[str] | None, typer.Option("--language", metavar="TAG", help="Only this one; repeatable.")] = None,
    chosen: Config = None,
) -> None:
    """Copy the packaged templates into the workspace: messages, and letters or messages with passwords where they are used.

    A file that is there already is kept. Changing one sentence needs no copy: a template may extend the packaged one and replace a block.
    """
    from distributor import bootstrap
    from distributor.bootstrap.delivery import template_renderer
    from distributor.files import atomic
    from distributor.files.reader import read_file
    from distributor.mail.templates import LARGEST_TEXT, available, packaged

    known = available((packaged(),))
    if unknown := [tag for tag in language or () if tag not in known]:
        raise InvalidInput(f'there is no packaged message in "{unknown[0]}"', hint=f"packaged: {', '.join(known)}")
    settings = bootstrap.settings(chosen)
    folder, kinds = settings.folder / "templates", template_renderer(settings).kinds
    kept = 0
    for name in (name for kind in (*kinds, REQUEST) for name in _files(packaged(), kind, language or known)):
        target = folder / name
        try:
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            atomic.write_new(target, read_file(packaged() / name, LARGEST_TEXT))
            stdout_line(escape(target))
        except FileExistsError:
            kept += 1
        except OSError as error:
            hint = "free some space, or correct the folder's permissions"
            raise InvalidInput((error.strerror or "cannot be written").lower(), where=str(target), hint=hint) from None
    if kept:
        stderr_line(f"{kept} {'file is' if kept == 1 else 'files are'} there already and not changed")
    stderr_line("next: edit them, then distributor doctor")


def _files(packaged: Path, kind: str, languages: Sequence[str]) -> list[str]:
    """The files of a kind: those of all languages, then those of each."""
    places = (kind, *(f"{kind}/{language}" for language in languages))
    found = [path for place in places for path in sorted((packaged / place).glob("*")) if path.is_file()]
    return [str(path.relative_to(packaged)) for path in found]
