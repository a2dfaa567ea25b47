"""`distributor templates export`: copies the packaged message templates into the workspace, to be changed."""

from __future__ import annotations

from typing import Annotated

import typer

from distributor.cli.options import Config
from distributor.cli.render import escape, stderr_line, stdout_line
from distributor.errors import InvalidInput

app = typer.Typer(help="The messages' templates.", no_args_is_help=True)
LAYOUT = "_layout.html"
PHRASES = "phrases.txt"  # that ask for another copy by mail


@app.command(epilog="\b\nexample:\n  distributor templates export --language de")
def export(
    language: Annotated[list[str] | None, typer.Option("--language", metavar="TAG", help="Only this one; repeatable.")] = None,
    chosen: Config = None,
) -> None:
    """Copy the packaged templates into the workspace.

    A file that is there already is kept. Changing one sentence needs no copy: a template may extend the packaged one and replace a block.
    """
    from distributor import bootstrap
    from distributor.files import atomic
    from distributor.files.reader import read_file
    from distributor.mail.templates import FILES, LARGEST_TEXT, available, packaged

    known = available((packaged(),))
    if unknown := [tag for tag in language or () if tag not in known]:
        raise InvalidInput(f'there is no packaged message in "{unknown[0]}"', hint=f"packaged: {', '.join(known)}")
    folder = bootstrap.settings(chosen).folder / "templates"
    kept = 0
    wanted = [f"message/{LAYOUT}", *(f"message/{tag}/{name}" for tag in language or known for name in FILES)]
    for name in (*wanted, *(f"request/{tag}/{PHRASES}" for tag in language or known)):
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
