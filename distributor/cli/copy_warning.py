"""A warning for commands that go on with a ledger that was restored or moved: only what sends stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distributor.model.ports import Ledger


def warn_gap(ledger: Ledger) -> None:
    """Say who may not be known in a ledger that was taken into use."""
    from distributor.cli.render import say
    from distributor.model.high_water_mark import LOOK

    if (found := ledger.gap()) is not None:
        say(f"warning: {found.message}")
        say(f"hint: {LOOK}")


def warn_restored(ledger: Ledger) -> None:
    """Say what speaks against sending from this ledger, if anything does."""
    from distributor.cli.render import foreign, say

    if (found := ledger.restored()) is not None:
        say(f"warning: {foreign(found.message)}; nothing is sent from it")
        say(f"hint: {found.hint}")
