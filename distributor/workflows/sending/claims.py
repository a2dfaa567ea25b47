"""The ledger's due letters -> one claim at a time for whichever lane is free, in small batches fetched ahead.

The feed ends when nothing is due, nothing is being packed, and no letter on the wire could come back; or when it is stopped.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from distributor.model.delivery import Claim

_QUICK = 0.3  # seconds; a batch that is gone sooner was too small
_LARGEST = 64  # letters in one batch, unless there are many lanes

Fetch = Callable[[int], Awaitable[list[Claim]]]
Wait = Callable[[], Awaitable[bool]]  # waits for a letter that is due soon; False when there is none


@dataclass
class Budget:
    """How many letters a run may still claim, by all its feeds; None: no bound."""

    left: int | None

    def grant(self, wish: int) -> int:
        """As many of the wished for as may be claimed; given back if they are not."""
        granted = wish if self.left is None else min(wish, self.left)
        self.add(-granted)
        return granted

    def add(self, letters: int) -> None:
        """Letters that count as not tried."""
        if self.left is not None:
            self.left += letters


@dataclass
class Feed:
    """Claims for the lanes of one road."""

    fetch: Fetch
    wait: Wait
    lanes: int
    budget: Budget
    packing: bool = False

    def __post_init__(self) -> None:
        self.ready: deque[Claim] = deque()
        self.ended = asyncio.Event()
        self.on_the_wire = 0
        self._filled, self._hungry, self._stirred = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._news = 0
        self._size, self._fetched = 2 * self.lanes, 0.0

    async def next(self) -> Claim | None:
        """A claim to carry, or None at the end."""
        while not self.ended.is_set():
            if self.ready:
                self.on_the_wire += 1
                claim = self.ready.popleft()
                if len(self.ready) < self.lanes:
                    self._hungry.set()
                return claim
            self._filled.clear()
            self._hungry.set()
            await self._filled.wait()
        return None

    def landed(self, *, again: bool) -> None:
        """A letter that was handed out is settled; `again` when it counts as not tried."""
        self.on_the_wire -= 1
        if again:
            self.budget.add(1)
        if again or not self.on_the_wire:
            self.stir()

    def stir(self) -> None:
        """Look again: something was packed, or came back."""
        self._news += 1
        self._stirred.set()

    def end(self) -> None:
        """No more claims."""
        self.ended.set()
        for event in (self._filled, self._hungry, self._stirred):
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
                await self._hungry.wait()
                if not self.ended.is_set():
                    await self._fill()
        finally:
            self.end()

    async def _fill(self) -> None:
        news, pending = self._news, self.packing or self.on_the_wire > 0 or bool(self.ready)
        room = self.budget.grant(self._room())
        claims = await self.fetch(room) if room else []
        self.budget.add(room - len(claims))
        if claims:
            self._take(claims)
        elif pending or news != self._news:
            await self._stir_after(news)
        elif not room or not await self.wait():
            self.end()

    def _take(self, claims: list[Claim]) -> None:
        self.ready.extend(claims)
        if len(self.ready) >= self.lanes:
            self._hungry.clear()
        self._filled.set()

    async def _stir_after(self, news: int) -> None:
        while news == self._news and not self.ended.is_set():
            self._stirred.clear()
            await self._stirred.wait()

    def _room(self) -> int:
        now = time.monotonic()
        quick = now - self._fetched < _QUICK
        self._size = min(2 * self._size, max(_LARGEST, 8 * self.lanes)) if quick else max(self._size // 2, 2 * self.lanes)
        self._fetched = now
        return self._size
