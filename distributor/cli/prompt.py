"""Asks questions on the terminal; without one, the error names the flag that answers them."""

from __future__ import annotations

import sys

from distributor.errors import RequestDenied, UsageError


def confirm(question: str, flag: str) -> None:
    """Ask yes or no on the terminal. Raises RequestDenied after a no, UsageError where there is no terminal."""
    if not can_ask():
        raise UsageError("the question cannot be asked without a terminal", hint=f"add {flag} to go on without it")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.buffer.readline().strip().lower() not in {b"y", b"yes"}:
        raise RequestDenied("not confirmed; nothing was done")


def can_ask() -> bool:
    """Whether a question can be asked: on stderr, with the answer from stdin."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def wait_for_enter() -> None:
    """Wait for Enter; bytes that are not text are ignored."""
    sys.stdin.buffer.readline()
