"""The ledger's file is moved, deleted or replaced while `send` runs: nothing more leaves that the next command would not know of."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable
from email import message_from_bytes
from pathlib import Path

import pytest

from distributor.ledger import sqlite
from tests.workspace import Recording, Workspace

pytestmark = pytest.mark.slow(reason="whole commands, several in each; what they rest on is tested beside the ledger and the workflows")


def moved(ledger: Path) -> None:
    ledger.rename(ledger.with_name("elsewhere.db"))


def deleted(ledger: Path) -> None:
    ledger.unlink()


def replaced(ledger: Path) -> None:
    copy = Path(shutil.copy(ledger, ledger.with_name("copy.db")))
    copy.rename(ledger)


def without_its_log(ledger: Path) -> None:
    if not sqlite.keeps_wal():
        pytest.skip("this SQLite has no write-ahead log that is safe")
    Path(f"{ledger}-wal").unlink()


class Meddling(Recording):
    """A mail server's handler that meddles with the ledger while it has the first message."""

    def __init__(self, meddle: Callable[[], None]) -> None:
        super().__init__()
        self._meddle = meddle

    async def handle_DATA(self, server: object, session: object, envelope: object) -> str:  # type: ignore[override]  # noqa: N802  aiosmtpd's name
        """Meddle, then keep the message."""
        if not self.messages:
            self._meddle()
        return await super().handle_DATA(server, session, envelope)  # type: ignore[arg-type]  # passed on


@pytest.mark.parametrize("happens", [moved, deleted, replaced, without_its_log])
def test_a_ledger_that_is_no_longer_in_its_place_stops_the_run(planned: Workspace, happens: Callable[[Path], None]) -> None:
    config = planned.folder / "distributor.toml"
    config.write_text(config.read_text(encoding="utf-8").replace("connections = 12", "connections = 1"), encoding="utf-8")
    handler = Meddling(lambda: happens(planned.folder / "distributor.db"))
    assert planned.server is not None
    planned.server.handler = handler
    done = planned.run("distributor send --yes")
    assert done.returncode == 3, done.stdout
    assert "was moved, deleted or replaced while in use; sending stopped" in done.stdout
    assert "docs/restore.md" in done.stdout
    assert len(handler.messages) == 1
    if happens is moved:
        assert planned.run("distributor send --yes").returncode == 3
        (planned.folder / "elsewhere.db").rename(planned.folder / "distributor.db")
    if happens is deleted:
        assert planned.run("distributor send --yes").returncode == 3
    else:
        planned.run("distributor send --yes")
    copies = Counter(message_from_bytes(message)["To"] for message in handler.messages)
    assert set(copies.values()) == {1}
