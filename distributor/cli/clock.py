"""Warnings about the ledger's clock, and the list of deliveries that senders work on; shared by several commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributor.cli.render import YELLOW, coloured, counted, escape, stderr_line, time

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from distributor.model.delivery import UnderWay
    from distributor.model.ports import Ledger


def warn_clock_ahead(ledger: Ledger) -> None:
    """Warn where the ledger's last event is in the future."""
    at = ledger.ahead()
    if at is not None:
        stderr_line(f"{coloured('warning', YELLOW)}: {clock_ahead_message(at, ledger.now())}")
        stderr_line("hint: set the clock with `timedatectl set-ntp true`; if it is right now, go on: this clock decides, not that event")


def clock_ahead_message(at: datetime, now: datetime) -> str:
    """The message about an event in the future."""
    return f"the ledger's last event is dated {time(at)}, {_span(at - now)} ahead of the clock ({time(now)}): one of the two is wrong"


def tell_under_way(held: Sequence[UnderWay], show: Callable[[str], None] = stderr_line) -> None:
    """List the deliveries that senders have claimed: by whom, since when and until when."""
    for each in held:
        show(_words(each))


def _words(held: UnderWay) -> str:
    doing = "claimed by" if held.state == "claimed" else "being sent by"
    until = "" if held.until is None else f"; unless it ends before, `distributor send` frees them after {time(held.until)}"
    who = f"process {held.owner.pid} of {escape(held.by or held.owner.host)}"
    return f"{counted(held.number, 'message')} {doing} {who} since {time(held.since)}{until}"


def _span(ahead: timedelta) -> str:
    minutes = round(ahead.total_seconds() / 60)
    if minutes < 120:  # noqa: PLR2004  two hours
        return f"{minutes} min"
    hours = round(minutes / 60)
    return f"{hours} h" if hours < 48 else f"{round(hours / 24)} days"  # noqa: PLR2004  two days


# --- copy warning --------------------------------------------------------------------------------
# Warnings of commands that may go on with a restored or moved ledger; only commands that send stop.


def warn_gap(ledger: Ledger) -> None:
    """Warn of people who may be missing in an adopted ledger."""
    from distributor.cli.render import stderr_line
    from distributor.model.high_water_mark import LOOK

    if (found := ledger.gap()) is not None:
        stderr_line(f"warning: {found.message}")
        stderr_line(f"hint: {LOOK}")


def warn_restored(ledger: Ledger) -> None:
    """Warn where nothing can be sent from this ledger until it is adopted."""
    from distributor.cli.render import escape, stderr_line

    if (found := ledger.restored()) is not None:
        stderr_line(f"warning: {escape(found.message)}; nothing is sent from it")
        stderr_line(f"hint: {found.hint}")
