"""Requests to stop a run: the first lets messages in flight finish, the second interrupts them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

Sleep = Callable[[float], Awaitable[object]]  # asyncio.sleep, or a test's own


class ShutdownRequest:
    """Counts requests to stop and passes them on. Call `request` from the event loop's signal handler."""

    def __init__(self) -> None:
        self.requests = 0
        self._listeners: list[Callable[[int], None]] = []

    def request(self) -> None:
        """Ask to stop; the second time: at once."""
        self.requests += 1
        for listener in tuple(self._listeners):
            listener(self.requests)

    def listen(self, listener: Callable[[int], None]) -> None:
        """Call `listener` with the number of requests so far at each one, and now if there was one."""
        self._listeners.append(listener)
        if self.requests:
            listener(self.requests)


async def sleep_unless(seconds: float, sleep: Sleep, until: asyncio.Event) -> bool:
    """Sleep until an event is set at the latest; whether it is set."""
    if until.is_set():
        return True
    tasks: set[asyncio.Future[object]] = {asyncio.ensure_future(sleep(seconds)), asyncio.ensure_future(until.wait())}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    return until.is_set()
