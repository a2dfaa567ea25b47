"""The Message-IDs of a run's accepted letters -> their copies in Sent Items removed for good; what remains is told.

The service keeps a copy of whatever goes as MIME. It lies there some seconds after the letter was accepted, so it is looked for again.
About one request a letter, at a pace that leaves a mailbox's limit of requests to others (facts: sending.md 1.2).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from distributor.clients._patience import Sleep
from distributor.clients.graph import IN_FLIGHT, Answer
from distributor.core.findings import Remark
from distributor.errors import Error
from distributor.transports._graph_answers import Heard, Step, said
from distributor.transports._graph_box import Box
from distributor.transports._graph_mailbox import Mailbox

AGAIN = (0.0, 5.0, 15.0, 40.0)  # seconds before each look
MARGIN = timedelta(minutes=10)  # by which the clocks may differ besides what is known
AT_ONCE = 3000  # removals without a pause; 10 000 requests in ten minutes are a mailbox's limit
PAUSE = IN_FLIGHT / 10  # seconds after each further one, so that the lanes together make ten a second
TRIES = 5  # of one removal, where the service asks to wait
LONGEST_WAIT = timedelta(seconds=120)
_SHORTEST_WAIT = timedelta(seconds=5)  # doubles
_BUSY = frozenset({429, 503})
_HINT = "remove them from Sent Items of {mailbox}, or let a retention policy do it"


async def cleared(mailboxes: Iterable[Mailbox], began: datetime, sleep: Sleep) -> list[Remark]:
    """Every mailbox that letters left through, side by side; never raises."""
    works = [Copies(mailbox.box, mailbox.sent, mailbox.since or "", sleep) for mailbox in mailboxes if mailbox.sent]
    return [remark for remark in await asyncio.gather(*(work.clear(began) for work in works)) if remark is not None]


class Copies:
    """The copies in one mailbox."""

    def __init__(self, box: Box, letters: Iterable[str], since: str, sleep: Sleep) -> None:
        """`since`: when a copy of an earlier run was sent, or an empty text."""
        self._box = box
        self._left = {letter.casefold() for letter in letters}
        self._since = since
        self._sleep = sleep
        self._removals = 0
        self._tried: set[str] = set()
        self._refused: str | None = None

    async def clear(self, began: datetime) -> Remark | None:
        """Remove what is there, and look again for what is not there yet."""
        for seconds in AGAIN:
            if seconds:
                await self._sleep(seconds)
            try:
                await self._round(began)
            except Error as error:
                self._refused = str(error)
            if not self._left or self._refused is not None:
                break
        return self._remark()

    async def _round(self, began: datetime) -> None:
        found = await self._found(began)
        self._left -= self._tried - set(found.values())  # the removal's answer was lost, and the copy is gone
        self._tried = set(found.values())
        todo, stay = iter(found.items()), set[str]()

        async def work() -> None:
            for message, letter in todo:
                if self._refused is not None or not await self._remove(message):
                    stay.add(letter)

        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
        self._left -= self._tried - stay

    async def _found(self, began: datetime) -> dict[str, str]:
        """Copies by their ids; all of them before the first goes, since a removal would shift the pages."""
        found: dict[str, str] = {}
        async for row in self._box.sent_since(self._from(began)):
            letter = str(row.get("internetMessageId") or "").casefold()
            if letter in self._left:
                found[str(row.get("id") or "")] = letter
        return found

    def _from(self, began: datetime) -> str:
        """By the service's clock, as far as it is known."""
        moment = began - MARGIN + min(self._box.graph.skew or timedelta(), timedelta())
        since = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return min(since, self._since or since)

    async def _remove(self, message: str) -> bool:
        self._removals += 1
        if self._removals > AT_ONCE:
            await self._sleep(PAUSE)
        heard: Heard | None = await self._box.remove(message)
        for tried in range(TRIES - 1):
            if not isinstance(heard, Answer) or heard.status not in _BUSY:
                break
            wait = heard.retry_after if heard.retry_after is not None else _SHORTEST_WAIT * 2**tried
            await self._sleep(min(wait, LONGEST_WAIT).total_seconds())
            heard = await self._box.remove(message)
        if isinstance(heard, Error) or (isinstance(heard, Answer) and heard.status in {401, 403}):
            self._refused = said(Step.REMOVE, heard)
        return heard is None

    def _remark(self) -> Remark | None:
        if not self._left:
            return None
        name, number = self._box.name, len(self._left)
        copies = "1 letter's copy stays" if number == 1 else f"{number} letters' copies stay"
        why = f': "{self._refused}"' if self._refused is not None else "; they were not found"
        return Remark("transport", "warning", f"{name}: {copies} in Sent Items{why}", _HINT.format(mailbox=name))
