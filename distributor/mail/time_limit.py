"""Limits the CPU time of Python code: raises an exception at the line where it is then."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SOON = 0.001  # seconds


class TimeLimitExceeded(Exception):
    """The code took too much CPU time."""


@contextmanager
def cpu_limit(most: float) -> Iterator[None]:
    """Raise TimeLimitExceeded in the body after `most` CPU seconds; not outside the main thread, nor on Windows."""
    try:
        before = signal.signal(signal.SIGVTALRM, _too_slow)
    except (AttributeError, ValueError):
        yield
        return
    signal.setitimer(signal.ITIMER_VIRTUAL, most)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _too_slow(number: int, frame: FrameType | None) -> None:
    del number
    if frame is None or frame.f_lineno is None:  # between two lines; who tells a person where it happened needs one
        signal.setitimer(signal.ITIMER_VIRTUAL, _SOON)
        return
    raise TimeLimitExceeded
