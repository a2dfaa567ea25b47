"""Reads the Inbox of a mailbox by Microsoft Graph, each mail once: the ledger keeps the link with which the service goes on (delta).

A link that the service has forgotten (410) begins anew. Handled mails get a category or are moved; ids are immutable, so that a mail that
was moved meanwhile is still found.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from distributor.clients.graph import IMMUTABLE, GraphClient, HttpResponse, NoResponse, odata_literal, path_segment, service_error
from distributor.clients.http import BUSY
from distributor.clients.throttle import RetryPolicy, Sleep
from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.model.mailboxes import LARGEST_MAIL, MailBatch, ReceivedMail

BATCH = 10  # mails in memory at a time, each up to LARGEST_MAIL
CATEGORY = "distributor"  # of handled mails that are not moved
_PREFER = {"Prefer": f"{IMMUTABLE['Prefer']}, odata.maxpagesize={BATCH}"}
_RETRIES = RetryPolicy(5, timedelta(seconds=10), timedelta(seconds=120))  # of one request
_GONE, _FORGOTTEN = 404, 410
_DENIED = frozenset({401, 403})
_SERVER_ERROR = 500  # and above
Response = HttpResponse | NoResponse


class GraphInbox:
    """The Inbox of one mailbox. `marks`: handled mails get the category; `move_to`: a folder of the mailbox's root for them instead."""

    def __init__(  # noqa: PLR0913  what it needs
        self,
        client: GraphClient,
        mailbox: str,
        *,
        key: str,
        marks: bool,
        move_to: str | None,
        timeout: float,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self.name = f"{client.root}/{mailbox}/inbox"
        self._graph, self._mailbox, self._key = client, mailbox, key
        self._marks, self._move_to, self._timeout, self._sleep = marks, move_to, timeout, sleep
        self._user = f"users/{path_segment(mailbox)}"
        self._destination = ""  # id of `move_to`

    async def read(self, after: str | None, since: datetime) -> AsyncIterator[MailBatch]:
        """The mails after a position, in batches; see model.mailboxes.MailboxReader."""
        known = self._is_link(after)
        unfinished = known and "skiptoken" in str(after).lower()  # a round that was cut off; what came since is in the next
        page = await self._ask(lambda: self._follow(after) if known else self._first(since))
        while True:
            if known and isinstance(page, HttpResponse) and page.status == _FORGOTTEN:
                known, unfinished, page = False, False, await self._ask(lambda: self._first(since))
            rows, more, position = self._page(page)
            found = sorted(await self._mails(rows), key=lambda mail: mail.received_at or since)
            yield MailBatch(tuple(found), position)
            if not more and not unfinished:
                return
            unfinished = unfinished and more
            page = await self._ask(lambda link=position: self._follow(link))  # type: ignore[misc]  # mypy infers no default

    async def mark(self, handled: Sequence[ReceivedMail]) -> None:
        """Give mails the category, or move them to `move_to`; one that is gone is left out."""
        if self._move_to is not None:
            self._destination = self._destination or await self.folder(self._move_to)
            for mail in handled:
                self._check(await self._ask(lambda mail=mail: self._post(mail.id)))  # type: ignore[misc]  # likewise
        elif self._marks:
            for mail in handled:
                await self._categorise(mail.id)

    async def folder(self, name: str) -> str:
        """The id of a folder of the mailbox's root. Raises InvalidInput where there is none."""
        params = {"$filter": f"displayName eq {odata_literal(name)}", "$select": "id,displayName"}
        response = await self._ask(lambda: self._get(f"{self._user}/mailFolders", params))
        match response:
            case HttpResponse(status=200, body={"value": [{"id": str(id_)}, *_]}):
                return id_
            case HttpResponse(status=200, body={"value": []}):
                hint = f"create it in {self._mailbox}, beside the Inbox, or correct `{self._key}.move_to`"
                raise InvalidInput(f'{self._mailbox} has no folder "{name}"', where=f"{self._key}.move_to", hint=hint)
        raise self._error(response)

    async def content(self, message: str, largest: int = LARGEST_MAIL) -> Response:
        """The first bytes of a message as MIME."""
        path = f"{self._user}/messages/{path_segment(message)}/$value"
        return await self._ask(
            lambda: self._graph.call("GET", path, mailbox=self._mailbox, headers=IMMUTABLE, timeout=self._timeout, largest=largest)
        )

    # --- requests --------------------------------------------------------------------------------------------------

    async def _ask(self, request: Callable[[], Awaitable[Response]]) -> Response:
        return await _RETRIES.call(request, self._sleep)

    def _get(self, path: str, params: Mapping[str, str], headers: Mapping[str, str] = IMMUTABLE) -> Awaitable[Response]:
        return self._graph.call("GET", path, mailbox=self._mailbox, params=params, headers=headers, timeout=self._timeout)

    def _first(self, since: datetime) -> Awaitable[Response]:
        from_ = since.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        params = {"changeType": "created", "$select": "receivedDateTime", "$filter": f"receivedDateTime ge {from_}"}
        return self._get(f"{self._user}/mailFolders/inbox/messages/delta", params, _PREFER)

    def _follow(self, link: str | None) -> Awaitable[Response]:
        return self._graph.follow(link, mailbox=self._mailbox, headers=_PREFER, timeout=self._timeout)

    def _post(self, message: str) -> Awaitable[Response]:
        path, body = f"{self._user}/messages/{path_segment(message)}/move", {"destinationId": self._destination}
        return self._graph.call("POST", path, mailbox=self._mailbox, json=body, headers=IMMUTABLE, timeout=self._timeout)

    async def _categorise(self, message: str) -> None:
        """Add the category to those that the mail has; they are replaced as a whole."""
        path = f"{self._user}/messages/{path_segment(message)}"
        response = await self._ask(lambda: self._get(path, {"$select": "categories"}))
        self._check(response)
        known = (response.body or {}).get("categories") if isinstance(response, HttpResponse) and response.good else None
        if not isinstance(known, list) or CATEGORY in known:
            return
        body = {"categories": [*known, CATEGORY]}
        self._check(
            await self._ask(
                lambda: self._graph.call("PATCH", path, mailbox=self._mailbox, json=body, headers=IMMUTABLE, timeout=self._timeout)
            )
        )

    async def _mails(self, rows: Sequence[Mapping[str, Any]]) -> list[ReceivedMail]:
        """The mails of a page without those that were deleted meanwhile; one that the service cannot read does not stop the others."""
        responses = await asyncio.gather(*(self.content(str(row["id"])) for row in rows))
        served = any(isinstance(response, HttpResponse) and response.good for response in responses)
        found = []
        for row, response in zip(rows, responses, strict=True):
            received_at, refused = _moment(row.get("receivedDateTime")), ""
            if isinstance(response, NoResponse) or response.status in _DENIED | BUSY or (response.status >= _SERVER_ERROR and not served):
                raise self._error(response)
            if response.status == _GONE:
                continue
            if not response.good:
                refused = f'received {row.get("receivedDateTime")}: "{response.detail}"'
            found.append(ReceivedMail(str(row["id"]), response.content if response.good else b"", received_at, refused))
        return found

    # --- responses -------------------------------------------------------------------------------------------------

    def _page(self, page: Response) -> tuple[list[Mapping[str, Any]], bool, str]:
        """The mails that came, whether more pages follow, and the link to go on with."""
        match page:
            case HttpResponse(status=200, body={"value": list(rows), **links}):
                following, last = links.get("@odata.nextLink"), links.get("@odata.deltaLink")
                link = following or last
                if isinstance(link, str) and all(isinstance(row, dict) and isinstance(row.get("id"), str) for row in rows):
                    return [row for row in rows if "@removed" not in row], link is following, link
                page = NoResponse("unexpected response: no list of changes", request_sent=True)
        raise self._error(page)

    def _check(self, response: Response) -> None:
        if isinstance(response, NoResponse) or not (response.good or response.status == _GONE):
            raise self._error(response)

    def _error(self, response: Response) -> ServiceUnavailable:
        if isinstance(response, HttpResponse) and response.status in _DENIED:
            needed = "Mail.ReadWrite" if self._marks or self._move_to else "Mail.Read"
            hint = f"the app needs {needed} for this mailbox; `distributor doctor` prints the command"
            return ServiceUnavailable(
                f'the mailbox does not allow this app to read mail: "{response.detail}"', where=self._mailbox, hint=hint
            )
        return service_error(response, self._mailbox)

    def _is_link(self, position: str | None) -> bool:
        """Whether a position is a link of this service."""
        return position is not None and position.startswith(f"{self._graph.root}/") and bool(urlsplit(position).query)


def _moment(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
