"""A Message-ID -> the messages of a mailbox with it, sent ones and drafts; and what they prove about an ambiguous message.

A message that is no draft any more has left. One that still is a draft has not, or is on its way and only looks like one: whoever sends
it again sends this very draft, which the service does only once (facts: sending.md 1.4).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import Any

from distributor.clients.graph import (
    IMMUTABLE,
    IN_FLIGHT,
    GraphClient,
    HttpResponse,
    NoResponse,
    odata_literal,
    path_segment,
    service_error,
)
from distributor.clients.throttle import RetryPolicy, Sleep
from distributor.model.attempts import TrackedMessage, TrackingEvent
from distributor.model.states import State

_SENT_ITEM_RETRIES = RetryPolicy(4, timedelta(seconds=10), timedelta(seconds=120))  # of one message
_SELECT = "id,isDraft,internetMessageId,sentDateTime,createdDateTime"
_MOST = 50  # messages with one Message-ID; more than one is rare already


@dataclass(frozen=True, slots=True)
class MailboxMessage:
    """A message of a mailbox. Times as Graph writes them, such as 2026-11-25T10:00:00Z."""

    id: str
    draft: bool
    message_id: str
    sent_at: str
    created_at: str


async def find(graph: GraphClient, mailbox: str, message_id: str, timeout: float) -> list[MailboxMessage] | HttpResponse | NoResponse:  # noqa: ASYNC109  of one exchange
    """The messages with this Message-ID, newest first; the response itself where it is no list. Raises ServiceUnavailable."""
    params = {"$filter": f"internetMessageId eq {odata_literal(message_id)}", "$select": _SELECT, "$top": str(_MOST)}
    where = f"users/{path_segment(mailbox)}/messages"
    response = await graph.call("GET", where, mailbox=mailbox, params=params, headers=IMMUTABLE, timeout=timeout)
    match response:
        case HttpResponse(status=200, body={"value": list(rows)}) if all(_is_message(row) for row in rows):
            return sorted((_mailbox_message(row) for row in rows), key=lambda found: found.created_at, reverse=True)
        case HttpResponse(status=200):
            return NoResponse("unexpected response: no list of messages", request_sent=True)
    return response


async def get_message(graph: GraphClient, mailbox: str, message: str, timeout: float) -> MailboxMessage | HttpResponse | NoResponse:  # noqa: ASYNC109  of one exchange
    """The message with this id; the response itself where it is none. Raises ServiceUnavailable if the sign-in fails."""
    where = f"users/{path_segment(mailbox)}/messages/{path_segment(message)}"
    response = await graph.call("GET", where, mailbox=mailbox, params={"$select": _SELECT}, headers=IMMUTABLE, timeout=timeout)
    match response:
        case HttpResponse(status=200, body=dict(row)) if _is_message(row):
            return _mailbox_message(row)
        case HttpResponse(status=200):
            return NoResponse("unexpected response: no message", request_sent=True)
    return response


def _is_message(row: object) -> bool:
    return isinstance(row, dict) and isinstance(row.get("id"), str) and isinstance(row.get("isDraft"), bool)


def _mailbox_message(row: Mapping[str, Any]) -> MailboxMessage:
    message_id, sent_at, created_at = (str(row.get(name) or "") for name in ("internetMessageId", "sentDateTime", "createdDateTime"))
    return MailboxMessage(row["id"], row["isDraft"], message_id, sent_at, created_at)


class SentItems:
    """Looks ambiguous messages up in the mailboxes that they were sent from."""

    min_age = timedelta(seconds=60)  # a copy may take so long to appear

    def __init__(
        self,
        client: GraphClient,
        mailbox: Callable[[str | None], str | None],
        *,
        timeout: float,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """`mailbox` maps a sender's address (None: no longer known) to its mailbox; None: not one of ours."""
        self._graph = client
        self._mailbox = mailbox
        self._timeout = timeout
        self._sleep = sleep

    async def track(self, tracked: Sequence[TrackedMessage]) -> AsyncIterator[TrackingEvent]:
        """The evidence found for ambiguous messages, four lookups at a time."""
        todo = iter([(one, mailbox) for one in tracked if one.state is State.AMBIGUOUS and (mailbox := self._mailbox(one.sender))])
        while batch := list(islice(todo, IN_FLIGHT)):
            response = await asyncio.gather(*(self._find_with_retries(message, mailbox) for message, mailbox in batch))
            for (message, mailbox), found in zip(batch, response, strict=True):
                if not isinstance(found, list):
                    raise service_error(found, mailbox)
                if seen := tracking_event(message, found):
                    yield seen

    async def close(self) -> None:
        """Close the connections."""
        await self._graph.close()

    async def _find_with_retries(self, message: TrackedMessage, mailbox: str) -> list[MailboxMessage] | HttpResponse | NoResponse:
        return await _SENT_ITEM_RETRIES.call(lambda: find(self._graph, mailbox, message.message_id, self._timeout), self._sleep)


def tracking_event(tracked: TrackedMessage, found: Sequence[MailboxMessage]) -> TrackingEvent | None:
    """What the messages with its Message-ID prove about a message: one that is no draft proves that it was sent.

    A draft proves that it was not, but only the draft that was to be sent: another may be a late result of a create that timed out.
    """
    sent = next((message for message in found if not message.draft), None)
    if sent is None:
        draft = next((message for message in found if tracked.draft in {None, message.id}), None)
        if draft is None:
            return None
        evidence = {"kind": "draft", "message_id": draft.message_id, "id": draft.id}
        return TrackingEvent(tracked.delivery, State.QUEUED, "still a draft", evidence)
    evidence = {"kind": "sent-items", "message_id": sent.message_id, "sent_at": sent.sent_at, "id": sent.id}
    return TrackingEvent(tracked.delivery, State.ACCEPTED, f"found in Sent Items, sent at {sent.sent_at}", evidence)
