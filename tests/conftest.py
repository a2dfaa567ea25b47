"""What every test may ask for."""

from __future__ import annotations

import pytest

from tests.authority import Authority


@pytest.fixture(scope="session")
def authority() -> Authority:
    """One certification authority for the whole run; its certificates differ a test."""
    return Authority()
