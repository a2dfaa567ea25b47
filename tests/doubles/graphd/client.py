"""A client with an app and a mailbox of its own, for tests of the double itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from tests.doubles.graphd import Cloud
from tests.doubles.graphd.caller import SECRET, Caller, connected

ROLES = ["Mail.Send", "Mail.ReadWrite", "User.Read.All", "GroupMember.Read.All", "ExchangeMessageTrace.Read.All"]
IMMUTABLE = {"Prefer": 'IdType="ImmutableId"'}


@contextmanager
def left_clean(cloud: Cloud) -> Iterator[None]:
    before = len(cloud.violations())
    yield
    faults = cloud.faults()
    cloud.clear_faults()
    assert faults == []
    assert cloud.violations()[before:] == []


def new_client(cloud: Cloud, stack: ExitStack, **app: object) -> Caller:
    name = cloud.app(**{"secrets": {SECRET: None}, "roles": ROLES, **app})
    address = f"certs-{name[:8]}@example.org"
    cloud.mailbox(address)
    return Caller(cloud, name, address, stack.enter_context(connected(cloud, cloud.token(name))))
