"""Which ledger this is and whom it belongs to, so that a copy or an older one is recognised."""

from __future__ import annotations

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Nothing yet."""
