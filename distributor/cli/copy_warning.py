"""Warnings of commands that may go on with a restored or moved ledger; only commands that send stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributor.model.ports import Ledger


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
