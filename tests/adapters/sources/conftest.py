"""Alice, Bob and a folder for their files."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.authority import Authority, Identity, rsa_key


@pytest.fixture(scope="module")
def alice(authority: Authority) -> Identity:
    return authority.issue("alice@example.org")


@pytest.fixture(scope="module")
def bob(authority: Authority) -> Identity:
    return authority.issue("bob@example.org", key=rsa_key(1))


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder
