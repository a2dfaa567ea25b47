"""The difference between this machine's clock and a service's -> a line of `doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from distributor.microsoft.powershell import steps
from distributor.model.issues import Diagnostic

ODD, WRONG = timedelta(seconds=30), timedelta(minutes=5)  # of difference; Entra tolerates five minutes


def clock_skew_check(skew: timedelta | None) -> Iterator[Diagnostic]:
    """`skew` is the service's clock minus ours; None: unknown."""
    if skew is None or abs(skew) <= ODD:
        return
    seconds = round(abs(skew).total_seconds())
    text = f"this machine's clock is {seconds} s {'behind' if skew > timedelta() else 'ahead of'} the service's"
    level = "error" if abs(skew) > WRONG else "warning"
    yield Diagnostic("transport", level, text, steps("set the clock, and let it be kept by NTP:", ("timedatectl set-ntp true",)))
