"""A warning for commands that go on with a ledger that was restored or moved: only what sends stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributor.model.ports import Ledger


def warn_gap(ledger: Ledger) -> None:
    """Say who may not be known in a ledger that was taken into use."""
    from distributor.cli.render import stderr_line
    from distributor.model.high_water_mark import LOOK

    if (found := ledger.gap()) is not None:
        stderr_line(f"warning: {found.message}")
        stderr_line(f"hint: {LOOK}")


def warn_restored(ledger: Ledger) -> None:
    """Say what speaks against sending from this ledger, if anything does."""
    from distributor.cli.render import escape, stderr_line

    if (found := ledger.restored()) is not None:
        stderr_line(f"warning: {escape(found.message)}; nothing is sent from it")
        stderr_line(f"hint: {found.hint}")
