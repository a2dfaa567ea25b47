"""The largest process of plan and send, with 200 people and with 2 000; of plan also with 100 000."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.bench.ground import line

SCRIPT = """
import json, sys
from pathlib import Path
from tests.bench.ground import accepted, distributor, people, sink, workspace
folder, count = Path(sys.argv[1]), int(sys.argv[2])
roster = people(folder, count)
with sink() as port:
    config = workspace(folder, port)
    plan = distributor("plan", "--roster", str(roster), "--json", config=config)
    send = distributor("send", "--yes", "--json", config=config)
    accepted(send, count)
print(json.dumps([plan.peak, send.peak]))
"""


LARGE = """
import json, sys
from pathlib import Path
from tests.bench.ground import distributor, many_people, workspace
folder, count = Path(sys.argv[1]), int(sys.argv[2])
roster = many_people(folder, count)
config = workspace(folder, 25)
plan = distributor("plan", str(folder / "certificates"), "--roster", str(roster), "--json", config=config)
if plan.answer["ready"] != count:
    raise SystemExit(f"{plan.answer['ready']} of {count} are planned")
print(json.dumps([plan.peak]))
"""
MANY = 100_000


def run(folder: Path) -> None:
    """Measure and print."""
    few, many = _peaks(folder / "few", 200), _peaks(folder / "many", 2000)
    for name, small, large in zip(("plan", "plan and send"), few, many, strict=True):
        line(f"{name}: 200 people, 2 000 people", f"{small:.0f}, {large:.0f} MiB")
        line(f"{name}: growth", f"{large / small:.2f}", "wanted: under 1.3")
    (most,) = _peaks(folder / "most", MANY, LARGE)
    line(f"plan: {MANY} people", f"{most:.0f} MiB", "wanted: under 150")


def _peaks(folder: Path, count: int, script: str = SCRIPT) -> list[float]:
    folder.mkdir()
    done = subprocess.run([sys.executable, "-c", script, str(folder), str(count)], check=True, stdout=subprocess.PIPE)
    peaks: list[float] = json.loads(done.stdout)
    return peaks
