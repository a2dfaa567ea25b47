"""Starts the SMTP double as a process and reads what it stored."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("smtpd.py")


@dataclass(frozen=True)
class Sink:
    port: int
    log: Path
    control: Path
    stored_messages: Path

    def stored(self) -> list[dict[str, Any]]:
        """Every message the server took responsibility for, in order."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def rules(self, *rules: dict[str, Any]) -> None:
        """Replace the faults that are read again at each command."""
        fresh = self.control.with_suffix(".new")
        fresh.write_text(json.dumps(rules))
        fresh.rename(self.control)

    def bytes_of(self, record: dict[str, Any]) -> bytes:
        """A stored message as it came."""
        return (self.stored_messages / f"{record['sha256']}.eml").read_bytes()


@contextmanager
def smtpd(folder: Path, *rules: dict[str, Any], options: tuple[str, ...] = (), before: tuple[str, ...] = ()) -> Iterator[Sink]:
    """A running double; its log survives it, and a second one in the same folder goes on in the same log.

    `before`: words before the command.
    """
    keep = folder / "messages"
    keep.mkdir(parents=True, exist_ok=True)
    log, control = folder / "messages.jsonl", folder / "control.json"
    argv = [
        *before,
        sys.executable,
        str(PROGRAM),
        "--log",
        str(log),
        "--control",
        str(control),
        "--keep",
        str(keep),
        "--rules",
        json.dumps(rules),
    ]
    with subprocess.Popen([*argv, *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Sink(int(process.stdout.readline()), log, control, keep)
        finally:
            process.stdin.close()
            process.wait(60)
