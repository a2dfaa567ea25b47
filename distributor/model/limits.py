"""Limits for files that come from outside."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for one incoming file (`[limits]` in the configuration)."""

    file: int = 2**20  # bytes; a real PFX with a chain has 4 to 10 KiB
    archive: int = 512 * 2**20  # bytes
    iterations: int = 2_000_000  # of one key derivation; NSS and GnuTLS use 600 000
    open_seconds: float = 10.0  # all of a file's key derivations together, estimated before the first, and what the child process may take
