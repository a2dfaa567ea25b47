"""Five hundred faults in the middle of sending: four workers on hosts of their own, one PostgreSQL.

DISTRIBUTOR_ROUNDS changes the number.
"""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path
from statistics import median

from tests.authority import Authority
from tests.bench.ground import line
from tests.real.apart import KINDS, site

ROUNDS = 500


def run(_folder: Path) -> None:
    """Each kind of fault in turn, most often for the worker that sends."""
    rounds = int(os.environ.get("DISTRIBUTOR_ROUNDS", ROUNDS))
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    with site(Authority(), seed=14) as made:
        made.plan(200)
        for name in made.workers:
            made.start(name)
        made.progress()
        for number in range(rounds):
            kind = KINDS[number % len(KINDS)]
            seconds[kind].append(made.round(kind))
            if number % 50 == 0:
                assert made.faults() == [], made.faults()
                line(f"after {number} faults", f"{made.people} people, {dict(made.states())}")
        made.finish()
        line("ambiguous", f"{made.states()['ambiguous']} of {made.people}, {made.settle()} of them sent again")
    for kind, waits in seconds.items():
        line(f"{kind}: until messages are sent again", f"{median(waits):.1f} s median, {max(waits):.1f} s at most, {len(waits)} times")
    line("faults", f"{rounds}: none sent twice, none lost, none stuck")
