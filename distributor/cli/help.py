"""Commands and groups: how their `--help` is printed, and how the values of their parameters are converted."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption

if TYPE_CHECKING:
    from collections.abc import Callable

    from typer._click import Context, HelpFormatter
    from typer._click.core import Parameter

_BRACES = re.compile(r"^\{(.*)\}")
_FIRST_SENTENCE = re.compile(r".*?(?:\.(?=\s)|$)", re.DOTALL)


class PlainValues:
    """Converts the values of a parameter as typer does, but loads pydantic (as slow as typer itself) only where a value needs it."""

    def __init__(self, parameter: TyperArgument | TyperOption) -> None:
        self._full = parameter.get_runtime_param
        described = parameter.type_descriptor
        info = described.parameter_info
        checked = info.exists or info.readable or info.writable or info.resolve_path or not (info.file_okay and info.dir_okay)
        self._plain: type[str | Path] | None = None
        if info.parser is None and info.path_type is None:
            self._plain = str if described.annotation is str else Path if described.annotation is Path and not checked else None
        is_choice = info.parser is None and isinstance(described.annotation, type) and issubclass(described.annotation, StrEnum)
        self._choices: tuple[StrEnum, ...] = tuple(described.annotation) if is_choice else ()

    def coerce(self, value: Any, param: TyperArgument | TyperOption, ctx: Context) -> Any:  # noqa: ANN401  typer's own signature
        """The value for the command. Raises typer's BadParameter."""
        if value is None:
            return () if param.nargs == -1 or getattr(param, "multiple", False) else None
        if self._plain is not None and isinstance(value, str):
            return self._plain(value)
        if isinstance(value, str) and value in self._choices:
            return next(choice for choice in self._choices if choice == value)
        return self._full().coerce(value, param=param, ctx=ctx)


def _convert_plainly(parameters: list[Parameter]) -> None:
    for each in parameters:
        if isinstance(each, TyperArgument | TyperOption):
            each.get_runtime_param = _constant(PlainValues(each))  # type: ignore[method-assign, assignment]


def _constant(values: PlainValues) -> Callable[[], PlainValues]:
    return lambda: values


class Command(TyperCommand):
    """A command whose help names an argument as `ADDRESS`, neither `{ADDRESS}` nor `ADDRESS <str>`."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Read the options and arguments."""
        _convert_plainly(self.get_params(ctx))
        return super().parse_args(ctx, args)

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

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Read the options of the group and the name of the command."""
        _convert_plainly(self.get_params(ctx))
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the commands."""
        commands = [(name, command) for name in self.list_commands(ctx) if (command := self.get_command(ctx, name)) and not command.hidden]
        with formatter.section("Commands"):
            formatter.write_dl([(name, _summary(command.help or "")) for name, command in commands])


def _summary(text: str) -> str:
    found = _FIRST_SENTENCE.match(" ".join(text.split()))
    return found[0] if found else ""
