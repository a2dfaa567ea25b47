"""Identifies this process as a LeaseHolder, and tells whether another holder's process still runs. Needs Linux's /proc to be certain."""

from __future__ import annotations

import hashlib
import os
import platform
import uuid
from pathlib import Path

from distributor.model.delivery import LeaseHolder
from distributor.model.high_water_mark import Machine

_GONE = {"Z", "X"}  # process states zombie and dead
_START = 19  # field 22 of /proc/PID/stat, counted after the name (proc(5))


def current_process() -> LeaseHolder:
    """A new lease holder for this process."""
    pid = os.getpid()
    found = _stat(pid)
    return LeaseHolder(uuid.uuid4().hex, _host(), pid, found[1] if found else None, _machine_id())


def machine() -> Machine:
    """The machine that this process runs on, as the ledger's events name it."""
    return Machine(_machine_id(), _host())


def is_alive(holder: LeaseHolder) -> bool | None:
    """Whether the holder's process runs; None when that cannot be known here: another machine, boot or container, /proc that hides it."""
    if holder.started is None or holder.host != _host():
        return None
    match _stat(holder.pid):
        case None:
            return None if _exists(holder.pid) else False
        case (state, started):
            return started == holder.started and state not in _GONE


def _host() -> str:
    """Machine, boot and PID namespace: a process id is unique only within all three."""
    boot = _read("/proc/sys/kernel/random/boot_id") or "-"
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        namespace = "-"
    return f"{platform.node()}/{boot}/{namespace}"


def _machine_id() -> str:
    """Distinguishes machines with the same name; empty where the system has no id. Hashed, since the id is confidential (machine-id(5))."""
    found = _read("/etc/machine-id") or _read("/var/lib/dbus/machine-id")
    return hashlib.sha256(f"distributor {found}".encode()).hexdigest()[:16] if found else ""


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start (clock ticks since boot) of a process; None when there is none, or no /proc."""
    text = _read(f"/proc/{pid}/stat")
    if text is None:
        return None
    fields = text.rpartition(")")[2].split()  # the name may hold spaces and parentheses
    return fields[0], int(fields[_START])


def _exists(pid: int) -> bool:
    """Whether there is a process with this number, also where /proc shows none of other users (hidepid, ProtectProc)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return None
