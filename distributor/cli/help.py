"""Prints `--help` of commands and groups: names of arguments without braces and types, and whole summaries."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from typer.core import TyperCommand, TyperGroup

if TYPE_CHECKING:
    from typer._click import Context, HelpFormatter

_BRACES = re.compile(r"^\{(.*)\}")
_FIRST_SENTENCE = re.compile(r".*?(?:\.(?=\s)|$)", re.DOTALL)


class Command(TyperCommand):
    """A command whose help names an argument as `ADDRESS`, neither `{ADDRESS}` nor `ADDRESS <str>`."""

    def collect_usage_pieces(self, ctx: Context) -> list[str]:
        """The words after the command's name in its usage."""
        return [_BRACES.sub(r"\1", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the arguments, then the options."""
        parameters = [(each, each.get_help_record(ctx)) for each in self.get_params(ctx)]
        arguments = [(record[0].split()[0], record[1]) for each, record in parameters if record and each.param_type_name == "argument"]
        options = [record for each, record in parameters if record and each.param_type_name == "option"]
        for title, records in (("Arguments", arguments), ("Options", options)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


class Group(TyperGroup):
    """A group whose help shows the first sentence of each command, on as many lines as it needs."""

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the commands."""
        commands = [(name, command) for name in self.list_commands(ctx) if (command := self.get_command(ctx, name)) and not command.hidden]
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(command.help or "")) for name, command in commands])


def _summary(text: str) -> str:
    found = _FIRST_SENTENCE.match(" ".join(text.split()))
    return found[0] if found else ""
