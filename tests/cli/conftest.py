"""A workspace with Alice and Bob, whose messages are sent or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.stage import Stage


@pytest.fixture
def planned(tmp_path: Path, authority: Authority) -> Iterator[Stage]:
    """Two messages are planned, and a server waits."""
    stage = Stage(tmp_path, authority)
    stage.play(
        "$ distributor init >/dev/null 2>&1\n+ server\n+ people\n$ distributor plan certificates --roster people.csv >/dev/null 2>&1\n"
    )
    yield stage
    stage.close()


@pytest.fixture
def sent(planned: Stage) -> Stage:
    """Both messages are accepted."""
    planned.play("$ distributor send --yes >/dev/null 2>&1\n")
    return planned
