"""The Graph double with a client, and another whose clock may be moved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.doubles.graphd import Cloud, graphd
from tests.doubles.graphd.caller import Caller
from tests.doubles.graphd.client import left_clean, new_client


@pytest.fixture(scope="module")
def another(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    with graphd(tmp_path_factory.mktemp("graphd")) as cloud:
        yield cloud


@pytest.fixture
def cloud(running: Cloud) -> Iterator[Cloud]:
    """One double for all tests; each has its own app, mailbox and people, and leaves neither faults nor violations."""
    with left_clean(running):
        yield running


@pytest.fixture
def client(cloud: Cloud) -> Iterator[Caller]:
    with ExitStack() as stack:
        yield new_client(cloud, stack)


@pytest.fixture
def later(another: Cloud) -> Iterator[Caller]:
    """A client of a double whose clock is moved; assertions are judged by that clock, so nobody signs in there."""
    with left_clean(another), ExitStack() as stack:
        yield new_client(another, stack)
