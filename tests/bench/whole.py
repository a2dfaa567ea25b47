"""Plan + pack + send of 2 000 people into smtp-sink, beside the packaging ceiling and beside mailmerge fed by a plain script.

Mailmerge and its script are one process after the other, and this program uses every core: where others load the machine, the ratio of
rates falls, and that of CPU times says what an idle one would show if every core were busy.
"""

from __future__ import annotations

import os
from pathlib import Path

from tests.bench import ceiling, rival
from tests.bench.ground import Pace, accepted, distributor, line, people, sink, workspace

COUNT = 2000


def run(folder: Path) -> None:
    """Measure and print: from PFX files, whose own key derivation costs half a package each, and from plain PEM."""
    with sink() as port:
        ours = _ours(folder / "pfx", "pfx", port)
        theirs = rival.whole(folder, folder / "pfx" / "people.csv", port)
        _ours(folder / "pem", "pem", port)
    package, derived = 1 / ceiling.one_core(), 1 / ceiling.derivations()
    line("a PFX's own derivations, a package", f"{derived * 1000:.2f}, {package * 1000:.2f} ms")
    line("from pfx: most that is possible / ceiling", f"{package / (package + derived):.2f}", "if nothing else cost anything")
    line("packaging script + mailmerge, from PFX", f"{theirs.rate:.1f}/s", f"{theirs.cpu * 1000:.2f} ms CPU each")
    line("whole run / mailmerge, from PFX", f"{ours.rate / theirs.rate:.1f}", "wanted: 10")
    line("the same of CPU times, every core busy", f"{theirs.cpu / ours.cpu * (os.cpu_count() or 1):.1f}")


def _ours(folder: Path, form: str, port: int) -> Pace:
    roster = people(folder, COUNT, form)
    config = workspace(folder, port)
    before = ceiling.machine()
    planned = distributor("plan", "--roster", str(roster), "--json", config=config)
    sent = distributor("send", "--yes", "--json", config=config)
    accepted(sent, COUNT)
    top = (before + ceiling.machine()) / 2
    rate = COUNT / (planned.wall + sent.wall)
    line(f"from {form}: packaging ceiling, all cores", f"{top:.0f}/s")
    line(f"from {form}: plan", f"{COUNT / planned.wall:.0f}/s", f"{planned.cpu / COUNT * 1000:.2f} ms CPU each")
    line(f"from {form}: pack and send", f"{COUNT / sent.wall:.0f}/s", f"{sent.cpu / COUNT * 1000:.2f} ms CPU each")
    line(f"from {form}: whole run", f"{rate:.0f}/s")
    line(f"from {form}: whole run / ceiling", f"{rate / top:.2f}", "wanted: 0.6")
    return Pace(rate, (planned.cpu + sent.cpu) / COUNT)
