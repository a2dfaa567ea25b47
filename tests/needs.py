"""What a test needs from the machine: skipped by name where it lacks, failed when everything is required."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

PLACES = ("/usr/sbin", "/usr/lib/postgresql/15/bin", "/usr/lib/postgresql/16/bin", "/usr/lib/postgresql/17/bin")


def require(program: str) -> str:
    """The path of a program; without it the test is skipped, or fails when DISTRIBUTOR_REQUIRE=all."""
    path = shutil.which(program) or shutil.which(program, path=os.pathsep.join(PLACES))
    if path is None:
        lacking(program)
    return path


def require_file(path: str) -> Path:
    """A file of the machine, such as a library's jar."""
    found = Path(path)
    if not found.exists():
        lacking(path)
    return found


def lacking(what: str) -> None:
    if os.environ.get("DISTRIBUTOR_REQUIRE") == "all":
        pytest.fail(f"this machine lacks {what}")
    pytest.skip(f"this machine lacks {what}")
