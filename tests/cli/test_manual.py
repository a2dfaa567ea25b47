"""The man page has every command and every option, and roff that groff takes without a warning."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import typer

from distributor.cli import manual
from distributor.cli.app import program
from hatch_build import SharedFiles
from tests.needs import require


def commands(group: Any, path: str) -> dict[str, Any]:  # noqa: ANN401  a group of typer's
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        found |= commands(command, f"{path} {name}") if getattr(command, "commands", None) else {f"{path} {name}": command}
    return found


def test_every_command_and_option_is_in_it() -> None:
    page = manual.page().replace("\\-", "-")
    for path, command in commands(typer.main.get_command(program()), "distributor").items():
        part = page.partition(f"\n.SS {path}\n")[2].partition("\n.SS ")[0]
        for option in re.findall(r"--[a-z-]+", " ".join(name for each in command.params for name in each.opts)):
            assert option in part, (path, option)


def test_groff_takes_it_without_a_warning() -> None:
    done = subprocess.run(
        [require("groff"), "-man", "-Tutf8", "-ww", "-b"], input=manual.page(), capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    assert "distributor password reveal" in re.sub(r".\x08", "", done.stdout)


def test_the_build_adds_it_to_the_wheel(tmp_path: Path) -> None:
    root, data = str(Path(manual.__file__).parents[2]), {"shared_data": dict[str, str]()}
    SharedFiles(root, {}, None, None, str(tmp_path / "dist"), "wheel").initialize("standard", data)  # type: ignore[arg-type]
    (made,) = (path for path, place in data["shared_data"].items() if place == "share/man/man1/distributor.1")
    assert Path(made).read_text(encoding="utf-8") == manual.page()


def test_the_build_adds_the_documents_that_hints_name(tmp_path: Path) -> None:
    root, data = Path(manual.__file__).parents[2], {"shared_data": dict[str, str]()}
    SharedFiles(str(root), {}, None, None, str(tmp_path / "dist"), "wheel").initialize("standard", data)  # type: ignore[arg-type]
    pages = {path.name for path in (root / "docs").glob("*.md")}
    assert len(pages) > 1
    assert {f"share/doc/distributor/docs/{name}" for name in pages} < set(data["shared_data"].values())
