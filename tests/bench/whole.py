"""Plan + pack + send of 2 000 people into smtp-sink, beside the packaging ceiling and beside mailmerge fed by a plain script."""

from __future__ import annotations

from pathlib import Path

from tests.bench import ceiling, rival
from tests.bench.ground import accepted, distributor, line, people, sink, workspace

COUNT = 2000


def run(folder: Path) -> None:
    """Measure and print."""
    roster = people(folder, COUNT)
    before = ceiling.machine()
    with sink() as port:
        config = workspace(folder, port)
        planned = distributor("plan", "--roster", str(roster), "--json", config=config)
        sent = distributor("send", "--yes", "--json", config=config)
        accepted(sent, COUNT)
        rate = COUNT / (planned.wall + sent.wall)
        top = (before + ceiling.machine()) / 2
        theirs = rival.whole(folder, roster, port)
    line("packaging ceiling, all cores", f"{top:.0f}/s")
    line("plan", f"{COUNT / planned.wall:.0f}/s", f"{planned.cpu / COUNT * 1000:.2f} ms CPU each")
    line("pack and send", f"{COUNT / sent.wall:.0f}/s", f"{sent.cpu / COUNT * 1000:.2f} ms CPU each")
    line("whole run", f"{rate:.0f}/s")
    line("whole run / ceiling", f"{rate / top:.2f}", "wanted: 0.6")
    line("packaging script + mailmerge", f"{theirs:.1f}/s")
    line("whole run / mailmerge", f"{rate / theirs:.1f}", "wanted: 10")
