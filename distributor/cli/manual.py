"""Writes the man page distributor(1) from the commands and their help, and completion for shells; a wheel has them in share/."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import typer

from distributor import __version__
from distributor.cli.app import program

EXIT_CODES = (  # CLI: Exit codes
    ("0", "Done; nothing needs a person."),
    ("1", "Done, but something needs a person: an error in a plan, a delivery rejected, bounced or ambiguous, a finding of an audit."),
    ("2", "Usage: an unknown option or command, or a missing argument."),
    ("3", "Configuration, input or ledger that cannot be used."),
    ("4", "A service refused or cannot be reached; the command may be repeated."),
    ("130", "Interrupted; nothing is lost."),
)
FILES = (
    (
        "distributor.toml",
        "Configuration. Found by --config, $DISTRIBUTOR_CONFIG, ./distributor.toml or $XDG_CONFIG_HOME/distributor/config.toml.",
    ),
    ("distributor.db", "Ledger."),
    ("vault.key", "Opens the passwords in the ledger."),
    ("docs/", "Documents that hints name; installed in share/doc/distributor/, beside the share/man/ of this page."),
)


def page() -> str:
    """The page in roff, with the macros of man(7)."""
    root = typer.main.get_command(program())
    lines = [
        f'.TH DISTRIBUTOR 1 "" "distributor {__version__}" "User Commands"',
        ".SH NAME",
        "distributor \\- S/MIME certificates to phones: packaged, sent, handed over and accounted for",
        ".SH SYNOPSIS",
        ".B distributor",
        "[\\fIOPTIONS\\fR] \\fICOMMAND\\fR [\\fIARGUMENTS\\fR]",
        ".SH DESCRIPTION",
        *_prose(root.help or ""),
        ".SH OPTIONS",
        *_parameters(root, typer.Context(root, info_name="distributor")),
        ".SH COMMANDS",
        *_commands(root, typer.Context(root, info_name="distributor")),
        ".SH EXIT STATUS",
        *_listed(EXIT_CODES),
        ".SH FILES",
        *_listed(FILES),
    ]
    return "\n".join(lines) + "\n"


def completion(shell: str) -> str:
    """The script that completes the command in bash, fish or zsh: what --show-completion prints in that shell."""
    from typer._completion_shared import get_completion_script

    script = str(get_completion_script(prog_name="distributor", complete_var="_DISTRIBUTOR_COMPLETE", shell=shell)) + "\n"
    first_use = '[ "$funcstack[1]" = _distributor ] && _distributor_completion\n'  # zsh loads the file when it is needed first
    return script + (first_use if shell == "zsh" else "")


def _commands(group: Any, above: typer.Context) -> Iterator[str]:  # noqa: ANN401  likewise
    for name, command in getattr(group, "commands", {}).items():
        context = typer.Context(command, info_name=name, parent=above)
        if getattr(command, "commands", None):
            yield from _commands(command, context)
            continue
        yield f".SS {_escaped(context.command_path)}"
        yield "\\fB" + _escaped(context.command_path) + "\\fR " + _escaped(" ".join(command.collect_usage_pieces(context)))
        yield from _prose(command.help or "")
        yield from _parameters(command, context)
        yield from _example(command.epilog or "")


def _parameters(command: Any, context: typer.Context) -> Iterator[str]:  # noqa: ANN401  a command of typer's
    for parameter in command.get_params(context):
        if record := parameter.get_help_record(context):
            yield from _listed([record])


def _listed(rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    for name, text in rows:
        yield ".TP"
        yield f"\\fB{_escaped(name)}\\fR"
        yield _escaped(text)


def _prose(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        yield ".PP"
        yield _escaped(" ".join(paragraph.split()))


def _example(epilog: str) -> Iterator[str]:
    """An epilog: lines that help prints as they are."""
    lines = [line for line in epilog.replace("\b", "").splitlines() if line.strip()]
    if lines:
        yield from (".PP", ".nf", *map(_escaped, lines), ".fi")


def _escaped(text: str) -> str:
    """Text for roff: backslashes and hyphens as such, and no line that begins as a request."""
    plain = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{plain}" if plain.startswith((".", "'")) else plain


if __name__ == "__main__":
    sys.stdout.write(page())
