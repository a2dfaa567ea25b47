"""Every transport keeps the promises of core.ports.Transport. A new file in the house is found here and needs its road below."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

import distributor.transports
from distributor.core.outcomes import Accepted, Parcel, Unsent
from distributor.core.ports import Transport
from tests.doubles.sink import smtpd

KINDS = sorted(m.name for m in pkgutil.iter_modules(distributor.transports.__path__) if not m.name.startswith("_"))


@dataclass(frozen=True)
class Road:
    transport: Transport
    arrived: Callable[[], list[bytes]]


@contextmanager
def smtp(folder: Path) -> Iterator[Road]:
    with smtpd(folder) as sink:
        module = importlib.import_module("distributor.transports.smtp")
        transport = module.open(module.Settings("127.0.0.1", sink.port, "none"))
        yield Road(transport, lambda: [sink.bytes_of(record) for record in sink.stored()])


@contextmanager
def folder(folder: Path) -> Iterator[Road]:
    module = importlib.import_module("distributor.transports.folder")
    transport = module.open(module.Settings(folder / "out"))
    yield Road(transport, lambda: [path.read_bytes() for path in sorted((folder / "out").glob("*.eml"))])


ROADS = {"smtp": smtp, "folder": folder}


@pytest.fixture(params=KINDS)
def road(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Road]:
    with ROADS[request.param](tmp_path) as opened:
        yield opened


def parcel(number: int = 1) -> Parcel:
    message = f"From: a@example.org\r\nMessage-ID: <m{number}@x>\r\n\r\n.a dot\r\n..two\r\n.\r\nend {number}\r\n".encode()
    return Parcel(f"d-{number}", "a@example.org", f"p{number}@example.org", f"<m{number}@x>", message)


def says(verdict: bool, log: list[str] | None = None) -> Callable[[], Awaitable[bool]]:  # noqa: FBT001
    async def arm() -> bool:
        if log is not None:
            log.append("armed")
        return verdict

    return arm


def test_every_transport_is_under_this_contract() -> None:
    assert set(ROADS) == set(KINDS)


def test_the_very_bytes_arrive_dots_and_all(road: Road) -> None:
    async def go() -> object:
        lane = road.transport.lane()
        try:
            return await lane.deliver(parcel(), says(True))
        finally:
            await lane.close()

    assert isinstance(asyncio.run(go()), Accepted)
    assert road.arrived() == [parcel().message]


def test_one_lane_carries_letter_after_letter_and_arms_each_once(road: Road) -> None:
    armed: list[str] = []

    async def go() -> None:
        lane = road.transport.lane()
        for number in range(3):
            assert isinstance(await lane.deliver(parcel(number), says(True, armed)), Accepted)
        await lane.close()

    asyncio.run(go())
    assert len(armed) == 3
    assert len(road.arrived()) == 3


def test_a_letter_whose_claim_was_lost_does_not_go(road: Road) -> None:
    async def go() -> object:
        lane = road.transport.lane()
        outcome = await lane.deliver(parcel(1), says(False))
        assert isinstance(await lane.deliver(parcel(2), says(True)), Accepted)  # and the lane still works
        await lane.close()
        return outcome

    assert isinstance(asyncio.run(go()), Unsent)
    assert road.arrived() == [parcel(2).message]


def test_nothing_goes_while_the_ledger_is_asked(road: Road) -> None:
    async def go() -> None:
        asked, answer = asyncio.Event(), asyncio.Event()

        async def arm() -> bool:
            asked.set()
            await answer.wait()
            return True

        lane = road.transport.lane()
        letter = asyncio.ensure_future(lane.deliver(parcel(), arm))
        await asked.wait()
        await asyncio.sleep(0.05)  # time enough for a transport that does not wait
        assert parcel().message not in road.arrived()
        answer.set()
        assert isinstance(await letter, Accepted)
        await lane.close()

    asyncio.run(go())


def test_a_ledger_that_fails_stops_the_letter(road: Road) -> None:
    async def arm() -> bool:
        raise OSError("disk full")

    async def go() -> None:
        lane = road.transport.lane()
        try:
            await lane.deliver(parcel(), arm)
        finally:
            await lane.close()

    with pytest.raises(OSError, match="disk full"):
        asyncio.run(go())
    assert parcel().message not in road.arrived()


def test_a_cancelled_letter_closes_its_connection_and_the_next_one_gets_its_own_answer(road: Road) -> None:
    async def go() -> None:
        asked = asyncio.Event()

        async def arm() -> bool:
            asked.set()
            await asyncio.Event().wait()
            return True

        lane = road.transport.lane()
        letter = asyncio.ensure_future(lane.deliver(parcel(1), arm))
        await asked.wait()
        letter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await letter
        assert isinstance(await lane.deliver(parcel(2), says(True)), Accepted)
        await lane.close()

    asyncio.run(go())
    assert road.arrived() == [parcel(2).message]


def test_doctor_finds_a_working_road(road: Road) -> None:
    remarks = asyncio.run(road.transport.check())
    assert [remark.level for remark in remarks] == ["ok"]


def test_closing_a_lane_that_was_never_used_does_nothing(road: Road) -> None:
    asyncio.run(road.transport.lane().close())
