"""What a user sees: each script in tests/terminal/ is played against the real program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.workspace import Workspace, matches

FAST = ("session", "usage", "workspace")
SLOW = pytest.mark.slow(reason="a long talk with the terminal")
SCRIPTS = sorted((Path(__file__).parent / "terminal").glob("*.txt"))


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority) -> Iterator[Workspace]:
    found = Workspace(tmp_path, authority)
    yield found
    found.close()


@pytest.mark.parametrize("script", [pytest.param(path, marks=[] if path.stem in FAST else [SLOW], id=path.stem) for path in SCRIPTS])
def test_the_terminal_shows_what_the_script_says(workspace: Workspace, script: Path) -> None:
    workspace.run_script(script.read_text(encoding="utf-8"))


def test_a_script_that_expects_something_else_fails(workspace: Workspace) -> None:
    with pytest.raises(AssertionError, match="line 1"):
        workspace.run_script("$ distributor --version\ndistributor 99.9\n")
    with pytest.raises(AssertionError, match="exit code 2"):
        workspace.run_script("$ distributor nonsense\n...\n")


def test_dots_stand_for_anything_in_their_line_only() -> None:
    assert matches(["a ... c"], ["a b c"])
    assert not matches(["a ... c"], ["a b", "c"])
    assert matches(["a", "...", "c"], ["a", "x", "y", "c"])
    assert not matches(["a", "c"], ["a", "b", "c"])
