"""What every test may ask for."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import run

FIRST = run.begin()  # before anything of the program is imported

from tests.authority import Authority  # noqa: E402

if TYPE_CHECKING:
    from tests.doubles.graphd import Cloud


def pytest_collection_finish() -> None:
    """Modules and tests stay: no garbage collection needs to look through them."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_unconfigure() -> None:
    run.end(first=FIRST)


@pytest.fixture(autouse=True)
def state_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where what was sent is remembered: of this test alone, never the user's own."""
    folder = tmp_path_factory.mktemp("state")
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder / "distributor"


@pytest.fixture(scope="session")
def authority() -> Authority:
    """One certification authority for the whole run; its certificates differ a test."""
    return Authority()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Microsoft's side, as a process that the tests of a module share."""
    from tests.doubles.graphd import graphd  # noqa: PLC0415  few tests want it

    with graphd(tmp_path_factory.mktemp("graphd")) as cloud:
        yield cloud
