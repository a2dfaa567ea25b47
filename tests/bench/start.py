"""How long `distributor --help` takes beside `import typer`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.ground import line

TIMES = 15


def run(folder: Path) -> None:
    """Measure and print."""
    _once(["-m", "distributor", "--help"], folder)
    pairs = [(_once(["-c", "import typer"], folder), _once(["-m", "distributor", "--help"], folder)) for _ in range(TIMES)]
    typer, ours = (statistics.median(column) for column in zip(*pairs, strict=True))
    line("import typer", f"{typer * 1000:.0f} ms")
    line("distributor --help", f"{ours * 1000:.0f} ms")
    line("help / typer", f"{ours / typer:.2f}", "wanted: under 2")


def _once(arguments: list[str], folder: Path) -> float:
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        check=True,
        stdout=subprocess.DEVNULL,
        env={"PYTHONPATH": str(Path(__file__).parents[2]), "HOME": str(folder)},
    )
    return time.perf_counter() - began
