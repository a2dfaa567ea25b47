"""Questions to a person; where none can be asked, the flag that answers them is named."""

from __future__ import annotations

import sys

from distributor.errors import RequestDenied, UsageError


def confirm(question: str, flag: str) -> None:
    """Ask yes or no on the terminal. Raises Refused after a no, Misuse where there is no terminal."""
    if not can_ask():
        raise UsageError("the question cannot be asked without a terminal", hint=f"add {flag} to go on without it")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.buffer.readline().strip().lower() not in {b"y", b"yes"}:
        raise RequestDenied("not confirmed; nothing was done")


def can_ask() -> bool:
    """Whether someone sits there: questions go to stderr, answers come from stdin."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def wait_for_enter() -> None:
    """Wait until the person has seen enough; what is typed meanwhile need not be text."""
    sys.stdin.buffer.readline()
