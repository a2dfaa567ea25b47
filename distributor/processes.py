"""A process as an Owner, and whether another Owner's process still runs. Knows Linux's /proc; elsewhere nothing is certain."""

from __future__ import annotations

import os
import platform
import uuid
from pathlib import Path

from distributor.core.deliveries import Owner

_GONE = {"Z", "X"}  # a zombie does nothing any more
_START = 19  # field 22 of /proc/PID/stat, counted after the name (proc(5))


def me() -> Owner:
    """A fresh owner for this process."""
    pid = os.getpid()
    found = _stat(pid)
    return Owner(uuid.uuid4().hex, _host(), pid, found[1] if found else None)


def alive(owner: Owner) -> bool | None:
    """Whether the owner's process runs; None when that cannot be known from here: another machine, boot or container, or no /proc."""
    if owner.started is None or owner.host != _host():
        return None
    match _stat(owner.pid):
        case None:
            return False
        case (state, started):
            return started == owner.started and state not in _GONE


def _host() -> str:
    """Machine, boot and process namespace: only within all three does a process id name one process."""
    boot = _read("/proc/sys/kernel/random/boot_id") or "-"
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = "-"
    return f"{platform.node()}/{boot}/{namespace}"


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start (clock ticks since boot) of a process; None when there is none, or no /proc."""
    text = _read(f"/proc/{pid}/stat")
    if text is None:
        return None
    fields = text.rpartition(")")[2].split()  # the name may hold spaces and parentheses
    return fields[0], int(fields[_START])


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
