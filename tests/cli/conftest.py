"""A workspace with Alice and Bob, whose messages are sent or not: made once a process, and put back for every test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from tests.authority import Authority
from tests.workspace import Workspace

PLAN = "$ distributor init >/dev/null 2>&1\n+ server\n+ people\n$ distributor plan certificates --roster people.csv >/dev/null 2>&1\n"
FRESH = 180.0  # seconds for which a workspace is used again
SEND = "$ distributor send --yes >/dev/null 2>&1\n"


class Snapshots:
    """A workspace after some commands, with what this host remembers of its ledger; a ledger's events name paths, so there is one place."""

    def __init__(self, base: Path, authority: Authority) -> None:
        self.base, self.folder, self.authority = base, base / "used" / "workspace", authority
        self._messages: dict[str, list[bytes]] = {}
        self._made: dict[str, float] = {}

    def save(self, name: str, workspace: Workspace) -> None:
        """Keep the workspace as it is."""
        shutil.copytree(self.folder, self.base / name / "workspace", symlinks=True)
        shutil.copytree(_state(), self.base / name / "state")
        self._messages[name], self._made[name] = list(workspace.handler.messages), monotonic()

    def restore(self, name: str) -> Workspace | None:
        """The workspace as it was kept, with a server of its own; None where it was not."""
        shutil.rmtree(self.folder.parent, ignore_errors=True)
        if name not in self._messages:
            return None
        if monotonic() > self._made[name] + FRESH:  # what a test waits for may have passed meanwhile
            shutil.rmtree(self.base / name)
            del self._messages[name]
            return None
        shutil.copytree(self.base / name / "workspace", self.folder, symlinks=True)
        shutil.copytree(self.base / name / "state", _state(), dirs_exist_ok=True)
        workspace = Workspace(self.folder, self.authority)
        workspace.handler.messages += self._messages[name]
        if workspace.handler.messages:
            workspace.handler.arrived.set()
        workspace.add_server()
        return workspace


def _state() -> Path:
    return Path(os.environ["XDG_STATE_HOME"])


@pytest.fixture(scope="session")
def snapshots(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Snapshots:
    return Snapshots(tmp_path_factory.mktemp("snapshots"), authority)


def _planned(snapshots: Snapshots) -> Workspace:
    workspace = snapshots.restore("planned")
    if workspace is None:
        snapshots.folder.mkdir(mode=0o700, parents=True)
        workspace = Workspace(snapshots.folder, snapshots.authority)
        workspace.run_script(PLAN)
        snapshots.save("planned", workspace)
    return workspace


@pytest.fixture
def planned(snapshots: Snapshots) -> Iterator[Workspace]:
    """Two messages are planned, and a server waits."""
    workspace = _planned(snapshots)
    yield workspace
    workspace.close()


@pytest.fixture
def sent(snapshots: Snapshots) -> Iterator[Workspace]:
    """Both messages are accepted."""
    workspace = snapshots.restore("sent")
    if workspace is None:
        workspace = _planned(snapshots)
        workspace.run_script(SEND)
        snapshots.save("sent", workspace)
    yield workspace
    workspace.close()
