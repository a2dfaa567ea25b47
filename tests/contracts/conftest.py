"""A mailbox at the Graph double whose clock is real, or moved by the transport's waiting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.contracts.graph_mailbox import GraphMailbox, mailbox_at, spotless
from tests.doubles.graphd import Cloud, graphd


@pytest.fixture
def mailbox(running: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[GraphMailbox]:
    yield mailbox_at(running, monkeypatch)
    spotless(running)


@pytest.fixture(scope="module")
def moving(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """One whose clock is moved."""
    with graphd(tmp_path_factory.mktemp("graphd")) as cloud:
        cloud.set(sign_in_clock="real")
        yield cloud


@pytest.fixture
def later(moving: Cloud, monkeypatch: pytest.MonkeyPatch) -> Iterator[GraphMailbox]:
    yield replace(mailbox_at(moving, monkeypatch), moves=True)
    spotless(moving)
