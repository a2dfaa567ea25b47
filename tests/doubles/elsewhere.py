"""The program on another host, or with another clock: `python -m tests.doubles.elsewhere SECONDS HOST command ...`.

The clock is so many seconds ahead. HOST is what processes are known by; "-" leaves this machine's own.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

from distributor import bootstrap
from distributor.cli import app
from distributor.workers import process


def main(ahead: str, host: str, *words: str) -> int:
    bootstrap.now = lambda: datetime.now(UTC) + timedelta(seconds=float(ahead))
    if host != "-":
        process._host = lambda: host  # noqa: SLF001  what no configuration may change
    return app.run(list(words))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
