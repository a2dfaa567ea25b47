"""The ledger's due messages -> one claim at a time for whichever lane is free, in small batches fetched ahead.

The feed ends when nothing is due, nothing is being packed, and no message on the wire could come back; or when it is stopped.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from distributor.model.delivery import Claim

_QUICK = 0.3  # seconds; a batch that is gone sooner was too small
_LARGEST = 64  # messages in one batch, unless there are many lanes

Fetch = Callable[[int], Awaitable[list[Claim]]]
Wait = Callable[[], Awaitable[bool]]  # waits for a message that is due soon; False when there is none


@dataclass
class SendLimit:
    """How many messages a run may still claim, by all its feeds; None: no bound."""

    left: int | None

    def grant(self, wish: int) -> int:
        """As many of the wished for as may be claimed; given back if they are not."""
        granted = wish if self.left is None else min(wish, self.left)
        self.add(-granted)
        return granted

    def add(self, messages: int) -> None:
        """Messages that count as not tried."""
        if self.left is not None:
            self.left += messages


@dataclass
class ClaimQueue:
    """Claims for the lanes of one road."""

    fetch: Fetch
    wait: Wait
    connections: int
    budget: SendLimit
    packing: bool = False

    def __post_init__(self) -> None:
        self.ready: deque[Claim] = deque()
        self.ended = asyncio.Event()
        self.in_flight = 0
        self._available, self._low_water, self._notified = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._news = 0
        self._size, self._fetched = 2 * self.connections, 0.0

    async def next(self) -> Claim | None:
        """A claim to carry, or None at the end."""
        while not self.ended.is_set():
            if self.ready:
                self.in_flight += 1
                claim = self.ready.popleft()
                if len(self.ready) < self.connections:
                    self._low_water.set()
                return claim
            self._available.clear()
            self._low_water.set()
            await self._available.wait()
        return None

    def complete(self, *, again: bool) -> None:
        """A message that was handed out is settled; `again` when it counts as not tried."""
        self.in_flight -= 1
        if again:
            self.budget.add(1)
        if again or not self.in_flight:
            self.notify()

    def notify(self) -> None:
        """Look again: something was packed, or came back."""
        self._news += 1
        self._notified.set()

    def end(self) -> None:
        """No more claims."""
        self.ended.set()
        for event in (self._available, self._low_water, self._notified):
            event.set()

    def unused(self) -> list[Claim]:
        """What was claimed and never handed out."""
        left = list(self.ready)
        self.ready.clear()
        return left

    async def run(self) -> None:
        """Fetch whenever lanes are about to starve, until the end."""
        try:
            while not self.ended.is_set():
                await self._low_water.wait()
                if not self.ended.is_set():
                    await self._fill()
        finally:
            self.end()

    async def _fill(self) -> None:
        news, pending = self._news, self.packing or self.in_flight > 0 or bool(self.ready)
        room = self.budget.grant(self._free_slots())
        claims = await self.fetch(room) if room else []
        self.budget.add(room - len(claims))
        if claims:
            self._take(claims)
        elif pending or news != self._news:
            await self._notify_after(news)
        elif not room or not await self.wait():
            self.end()

    def _take(self, claims: list[Claim]) -> None:
        self.ready.extend(claims)
        if len(self.ready) >= self.connections:
            self._low_water.clear()
        self._available.set()

    async def _notify_after(self, news: int) -> None:
        while news == self._news and not self.ended.is_set():
            self._notified.clear()
            await self._notified.wait()

    def _free_slots(self) -> int:
        now = time.monotonic()
        quick = now - self._fetched < _QUICK
        self._size = min(2 * self._size, max(_LARGEST, 8 * self.connections)) if quick else max(self._size // 2, 2 * self.connections)
        self._fetched = now
        return self._size
