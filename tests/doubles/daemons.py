"""What real servers need that tests start on loopback: an unprivileged user, free ports, and the moment when they listen."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from tests.needs import require

STARTS = 120.0  # seconds it may take on a busy machine


def unprivileged(folder: Path) -> list[str]:
    """What a command begins with so that root gives itself up for a server, to which the folder then belongs."""
    if os.geteuid() != 0:
        return []
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, "nobody", "nogroup")
    return [require("setpriv"), "--reuid=nobody", "--regid=nogroup", "--clear-groups"]


def free_port() -> int:
    """A port that nobody uses; it may be taken by somebody else before a server listens there."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(process: subprocess.Popen[bytes], port: int) -> bool:
    """Wait until a process listens on a port; False where it ended first."""
    ends = time.monotonic() + STARTS
    while time.monotonic() < ends and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)  # asks again; ends with the process or the time
        else:
            return True
    return False
