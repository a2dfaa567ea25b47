"""The key that a certificate is about, so that one key pair for two people is found."""

from __future__ import annotations

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Nothing yet."""
