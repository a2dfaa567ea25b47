"""Every transport keeps the promises of model.ports.Transport. A new kind is found in the registry and needs its server below."""

from __future__ import annotations

import asyncio
import importlib
import re
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest

from distributor.adapters import REGISTRY
from distributor.bootstrap.delivery import MAILBOX_CLEANERS
from distributor.model.attempts import Accepted, DraftRef, NotSent, OutboundMessage
from distributor.model.mailbox_cleanup import MailboxCleaner
from distributor.model.ports import CommitIntent, Transport
from tests.doubles.graphd import Cloud, graphd
from tests.doubles.sink import smtpd

T = TypeVar("T")
SENDER = "a@example.org"

KINDS = sorted(REGISTRY["transports"])


@dataclass(frozen=True)
class TransportCase:
    transport: Transport
    arrived: Callable[[], list[bytes]]

    def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Work, and then the end of a run, which closes what was kept open."""

        async def whole() -> T:
            try:
                return await work()
            finally:
                assert await self.transport.finish() == []

        return asyncio.run(whole())


@dataclass
class SharedCloud:
    """One Graph for all tests, started by the first that needs it."""

    stack: ExitStack
    folder: Path
    running: Cloud | None = None

    def cloud(self) -> Cloud:
        if self.running is None:
            self.running = self.stack.enter_context(graphd(self.folder))
            self.running.mailbox(SENDER)
            self.running.set(device_interval=0)
        return self.running


@pytest.fixture(scope="module")
def shared_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SharedCloud]:
    with ExitStack() as stack:
        yield SharedCloud(stack, tmp_path_factory.mktemp("graphd"))


@contextmanager
def smtp(folder: Path, shared_cloud: SharedCloud) -> Iterator[TransportCase]:
    del shared_cloud
    with smtpd(folder) as sink:
        module = importlib.import_module("distributor.adapters.transports.smtp")
        transport = module.open(module.Settings("127.0.0.1", sink.port, "none"))
        yield TransportCase(transport, lambda: [sink.bytes_of(record) for record in sink.stored()])


@contextmanager
def folder(folder: Path, shared_cloud: SharedCloud) -> Iterator[TransportCase]:
    del shared_cloud
    module = importlib.import_module("distributor.adapters.transports.folder")
    transport = module.open(module.Settings(folder / "out"))
    yield TransportCase(transport, lambda: [path.read_bytes() for path in sorted((folder / "out").glob("*.eml"))])


@contextmanager
def graph(folder: Path, shared_cloud: SharedCloud) -> Iterator[TransportCase]:
    """A person's own sign-in, since what an app is granted for the whole tenant is more than a transport needs."""
    del folder
    cloud, module = shared_cloud.cloud(), importlib.import_module("distributor.adapters.transports.graph")
    app = cloud.app(delegated=["Mail.Send", "Mail.ReadWrite"])

    def tell(text: str) -> None:
        cloud.approve(re.findall(r"code (\S+)", text)[0], SENDER)

    settings = module.Settings(tenant=cloud.tenant, client_id=app, device_code=True, login=cloud.login, graph=cloud.graph, mailbox=SENDER)
    before = len(cloud.stored())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(cloud.ca))
        patch.setenv("NO_PROXY", "localhost")
        yield TransportCase(module.open(settings, tell=tell), lambda: [cloud.bytes_of(record) for record in cloud.stored()[before:]])
    assert cloud.violations() + cloud.refusals() == []


SERVERS = {"smtp": smtp, "folder": folder, "graph": graph}


@pytest.fixture(params=KINDS)
def case(request: pytest.FixtureRequest, tmp_path: Path, shared_cloud: SharedCloud) -> Iterator[TransportCase]:
    with SERVERS[request.param](tmp_path, shared_cloud) as opened:
        yield opened


def outbound(number: int = 1) -> OutboundMessage:
    head = f"From: {SENDER}\r\nTo: p{number}@example.org\r\nMessage-ID: <m{number}@x>\r\n\r\n"
    message = f"{head}.a dot\r\n..two\r\n.\r\nend {number}\r\n".encode()
    return OutboundMessage(f"d-{number}", SENDER, f"p{number}@example.org", f"<m{number}@x>", message)


def intent(verdict: bool, log: list[str] | None = None) -> CommitIntent:  # noqa: FBT001
    async def record_intent(_: DraftRef | None = None, /) -> bool:
        if log is not None:
            log.append("armed")
        return verdict

    return record_intent


def test_every_transport_is_under_this_contract() -> None:
    assert set(SERVERS) == set(KINDS)


def test_the_very_bytes_arrive_dots_and_all(case: TransportCase) -> None:
    async def go() -> object:
        connection = case.transport.connection()
        try:
            return await connection.deliver(outbound(), intent(True))
        finally:
            await connection.close()

    assert isinstance(case.run(go), Accepted)
    assert case.arrived() == [outbound().message]


def test_one_lane_carries_message_after_message_and_arms_each_once(case: TransportCase) -> None:
    armed: list[str] = []

    async def go() -> None:
        connection = case.transport.connection()
        for number in range(3):
            assert isinstance(await connection.deliver(outbound(number), intent(True, armed)), Accepted)
        await connection.close()

    case.run(go)
    assert len(armed) == 3
    assert len(case.arrived()) == 3


def test_a_message_whose_claim_was_lost_does_not_go(case: TransportCase) -> None:
    async def go() -> object:
        connection = case.transport.connection()
        outcome = await connection.deliver(outbound(1), intent(False))
        assert isinstance(await connection.deliver(outbound(2), intent(True)), Accepted)  # and the connection still works
        await connection.close()
        return outcome

    assert isinstance(case.run(go), NotSent)
    assert case.arrived() == [outbound(2).message]


def test_nothing_goes_while_the_ledger_is_asked(case: TransportCase) -> None:
    async def go() -> None:
        asked, answer = asyncio.Event(), asyncio.Event()

        async def record_intent(_: DraftRef | None = None, /) -> bool:
            asked.set()
            await answer.wait()
            return True

        connection = case.transport.connection()
        message = asyncio.ensure_future(connection.deliver(outbound(), record_intent))
        await asked.wait()
        await asyncio.sleep(0.05)  # time enough for a transport that does not wait
        assert outbound().message not in case.arrived()
        answer.set()
        assert isinstance(await message, Accepted)
        await connection.close()

    case.run(go)


def test_a_ledger_that_fails_stops_the_message(case: TransportCase) -> None:
    async def record_intent(_: DraftRef | None = None, /) -> bool:
        raise OSError("disk full")

    async def go() -> None:
        connection = case.transport.connection()
        try:
            await connection.deliver(outbound(), record_intent)
        finally:
            await connection.close()

    with pytest.raises(OSError, match="disk full"):
        case.run(go)
    assert outbound().message not in case.arrived()


def test_a_cancelled_message_closes_its_connection_and_the_next_one_gets_its_own_answer(case: TransportCase) -> None:
    async def go() -> None:
        asked = asyncio.Event()

        async def record_intent(_: DraftRef | None = None, /) -> bool:
            asked.set()
            await asyncio.Event().wait()
            return True

        connection = case.transport.connection()
        message = asyncio.ensure_future(connection.deliver(outbound(1), record_intent))
        await asked.wait()
        message.cancel()
        with pytest.raises(asyncio.CancelledError):
            await message
        assert isinstance(await connection.deliver(outbound(2), intent(True)), Accepted)
        await connection.close()

    case.run(go)
    assert case.arrived() == [outbound(2).message]


def test_doctor_finds_a_working_transport(case: TransportCase) -> None:
    diagnostics = asyncio.run(case.transport.check())
    assert [diagnostic.level for diagnostic in diagnostics] == ["ok"]


def test_only_what_cleans_mailboxes_is_asked_whether_there_is_work(case: TransportCase, request: pytest.FixtureRequest) -> None:
    """`send` does not load the others where nothing is due."""
    kind = request.node.callspec.params["case"]
    assert isinstance(case.transport.tracker(), MailboxCleaner) == (kind in MAILBOX_CLEANERS)


def test_closing_a_lane_that_was_never_used_does_nothing(case: TransportCase) -> None:
    case.run(case.transport.connection().close)
