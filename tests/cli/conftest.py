"""A workspace with Alice and Bob, whose messages are sent or not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.workspace import Workspace


@pytest.fixture
def planned(tmp_path: Path, authority: Authority) -> Iterator[Workspace]:
    """Two messages are planned, and a server waits."""
    workspace = Workspace(tmp_path, authority)
    workspace.run_script(
        "$ distributor init >/dev/null 2>&1\n+ server\n+ people\n$ distributor plan certificates --roster people.csv >/dev/null 2>&1\n"
    )
    yield workspace
    workspace.close()


@pytest.fixture
def sent(planned: Workspace) -> Workspace:
    """Both messages are accepted."""
    planned.run_script("$ distributor send --yes >/dev/null 2>&1\n")
    return planned
