"""CPU time of commands that do little, beside `import typer`: what they cost is mostly what they import."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

from tests.bench.ground import environment, line

TIMES = 9
COMMANDS = {  # with the multiple of `import typer` that is wanted
    ("--help",): 2,
    ("config", "show"): 5,
    ("status",): 5,
    ("history", "alice@example.org"): 5,
    ("password", "reveal", "alice@example.org", "--reason", "asked again", "--stdout"): 5,  # refused: it was revealed
    ("send", "--yes"): 8,  # nothing is due
}


def run(folder: Path) -> None:
    """Measure and print the least of several, since other programs only ever add to it."""
    workspace = folder / "demo"
    _cpu(["-m", "distributor", "demo", "--keep", str(workspace)], folder)
    programs = {words: ["-m", "distributor", *words] for words in COMMANDS}
    rounds = [
        (_cpu(["-c", "import typer"], workspace), {words: _cpu(program, workspace) for words, program in programs.items()})
        for _ in range(TIMES)
    ]
    typer = min(first for first, _ in rounds)
    line("import typer", f"{typer * 1000:.0f} ms")
    for words, wanted in COMMANDS.items():
        least = min(costs[words] for _, costs in rounds)
        line(f"distributor {' '.join(words[:2])}", f"{least * 1000:.0f} ms", f"{least / typer:.1f} x typer; wanted: at most {wanted}")


def _cpu(arguments: list[str], folder: Path) -> float:
    """CPU seconds of a Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(
        [sys.executable, *arguments], check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, env=environment()
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
