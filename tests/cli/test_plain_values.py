"""Values of options and arguments that are converted without pydantic are what typer makes of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import pytest
import typer

from distributor.cli.app import program
from distributor.cli.help import Command, PlainValues

if TYPE_CHECKING:
    from typer.core import TyperArgument, TyperOption

COMMAND: Any = typer.main.get_command(program())
VALUES = (None, "", "alice@example.org", "a/b.pem", "/", "7", "seven", "é", "\udcff", ["a", "b"], ("a", "é"), Path("x"), 7)


def _parameters(command: Any) -> list[TyperArgument | TyperOption]:  # noqa: ANN401  a command or a group
    below = getattr(command, "commands", {}).values()
    own = [each for each in command.params if hasattr(each, "type_descriptor")]
    return own + [parameter for one in below for parameter in _parameters(one)]


def _converted(values: Any, parameter: TyperArgument | TyperOption, value: object) -> object:  # noqa: ANN401  ours or typer's
    try:
        made = values.coerce(value, param=parameter, ctx=typer.Context(COMMAND))
    except typer.BadParameter as error:
        return error.format_message()
    except TypeError as error:  # a text for several values, which the command line cannot give
        return type(error)
    return type(made), made


@pytest.mark.parametrize("value", VALUES, ids=ascii)
def test_every_option_and_argument_of_the_program_is_converted_as_by_typer(value: object) -> None:
    parameters = _parameters(COMMAND)
    assert len(parameters) > 50
    for each in parameters:
        assert _converted(PlainValues(each), each, value) == _converted(each.get_runtime_param(), each, value), each.name


def test_a_path_that_typer_is_to_check_is_checked(tmp_path: Path) -> None:
    small = typer.Typer(add_completion=False)

    @small.command(cls=Command)
    def show(
        path: Annotated[Path, typer.Argument(exists=True)], folder: Annotated[Path | None, typer.Option(file_okay=False)] = None
    ) -> str:
        return f"{path.name} {folder}"

    there = tmp_path / "there"
    there.touch()
    command = typer.main.get_command(small)
    assert command.main([str(there)], standalone_mode=False) == "there None"
    for refused in ([str(tmp_path / "gone")], [str(there), "--folder", str(there)]):
        with pytest.raises(typer.BadParameter):
            command.main(refused, standalone_mode=False)
