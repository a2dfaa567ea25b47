"""What a user sees: each script in tests/terminal/ is played against the real program."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.stage import Stage, matches

FAST = ("session", "usage", "workspace")
SLOW = pytest.mark.slow(reason="a long talk with the terminal")
SCRIPTS = sorted((Path(__file__).parent / "terminal").glob("*.txt"))


@pytest.fixture
def stage(tmp_path: Path, authority: Authority) -> Iterator[Stage]:
    found = Stage(tmp_path, authority)
    yield found
    found.close()


@pytest.mark.parametrize("script", [pytest.param(path, marks=[] if path.stem in FAST else [SLOW], id=path.stem) for path in SCRIPTS])
def test_the_terminal_shows_what_the_script_says(stage: Stage, script: Path) -> None:
    stage.play(script.read_text(encoding="utf-8"))


def test_a_script_that_expects_something_else_fails(stage: Stage) -> None:
    with pytest.raises(AssertionError, match="line 1"):
        stage.play("$ distributor --version\ndistributor 99.9\n")
    with pytest.raises(AssertionError, match="exit code 2"):
        stage.play("$ distributor nonsense\n...\n")


def test_dots_stand_for_anything_in_their_line_only() -> None:
    assert matches(["a ... c"], ["a b c"])
    assert not matches(["a ... c"], ["a b", "c"])
    assert matches(["a", "...", "c"], ["a", "x", "y", "c"])
    assert not matches(["a", "c"], ["a", "b", "c"])
