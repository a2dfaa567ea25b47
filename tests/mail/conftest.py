"""Fixtures of these tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A workspace's folder of English messages."""
    folder = tmp_path / "templates" / "message" / "en"
    folder.mkdir(parents=True)
    return folder
