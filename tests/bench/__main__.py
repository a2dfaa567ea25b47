"""Every figure of speed and memory, measured side by side in one run: `python -m tests.bench [NAME...]`, or `make bench`."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from pathlib import Path

NAMES = ("whole", "sending", "graph", "memory", "start", "status", "audit", "trust", "portal", "notices", "head", "mailboxes", "apart")


def main(names: list[str]) -> None:
    """Run the named measurements, or all of them, each in a folder that goes away."""
    for name in names or NAMES:
        print(f"\n== {name}", flush=True)
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            os.environ["XDG_STATE_HOME"] = folder  # what is sent here is not remembered in the user's own
            importlib.import_module(f"tests.bench.{name}").run(Path(folder))


if __name__ == "__main__":
    main(sys.argv[1:])
