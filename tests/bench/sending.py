"""Packed messages alone into smtp-sink, every one armed and settled durably, beside mailmerge with ready-made attachments."""

from __future__ import annotations

from pathlib import Path

from tests.bench import rival
from tests.bench.ground import accepted, distributor, line, people, sink, workspace

COUNT = 4000


def run(folder: Path) -> None:
    """Measure and print, with the connections that `init` configures and with more."""
    roster = people(folder, COUNT)
    with sink() as port:
        theirs = rival.sending(folder, roster, port)
        line("mailmerge with ready-made attachments", f"{theirs:.0f}/s")
        for connections in (4, 12):
            _ours(folder / f"with-{connections}", roster, port, connections, theirs)


def _ours(folder: Path, roster: Path, port: int, connections: int, theirs: float) -> None:
    folder.mkdir()
    config = workspace(folder, port, connections)
    distributor("plan", "--roster", str(roster), "--json", config=config)
    distributor("send", "--dry-run", str(folder / "dry"), "--json", config=config)
    idle = distributor("status", "--state", "bounced", "--json", config=config)
    sent = distributor("send", "--yes", "--json", config=config)
    accepted(sent, COUNT)
    line(f"messages a second on {connections} connections", f"{COUNT / (sent.wall - idle.wall):.0f}/s", "wanted: 1000")
    line("the same with the program's start", f"{COUNT / sent.wall:.0f}/s", f"{sent.cpu / COUNT * 1000:.2f} ms CPU each")
    line("ours / mailmerge", f"{COUNT / sent.wall / theirs:.1f}", "wanted: 3")
