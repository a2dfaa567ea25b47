"""The requests to Graph about one mailbox, each made once. What an answer means is decided elsewhere."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Mapping
from typing import Any

from distributor.adapters.transports.graph.responses import Response
from distributor.clients.graph import IMMUTABLE, GraphClient, HttpResponse, NoResponse, path_segment
from distributor.clients.sent_items import MailboxMessage, find, get_message
from distributor.errors import Error
from distributor.model.attempts import DraftRef, OutboundMessage

PAGE = 1000  # messages on a page; the most that Graph gives
_NO_SUCH_CALL = frozenset({400, 404, 405, 501})  # answers to permanentDelete in clouds that do not have it
_MIME = {"content-type": "text/plain"}


class GraphMailboxApi:
    """One mailbox. `reached`: whether the service answered in this run."""

    def __init__(self, name: str, graph: GraphClient, timeout: float) -> None:
        self.name = name
        self.reached = False
        self.graph = graph
        self._timeout = timeout

    # --- messages -------------------------------------------------------------------------------------------------------

    async def find(self, message_id: str) -> list[MailboxMessage] | Response:
        """The messages with this Message-ID, the newest first."""
        try:
            found = await find(self.graph, self.name, message_id, self._timeout)
        except Error as error:
            return error
        self.reached = self.reached or not isinstance(found, NoResponse)
        return found

    async def look_at(self, message: str) -> MailboxMessage | Response:
        """The message with this id."""
        try:
            found = await get_message(self.graph, self.name, message, self._timeout)
        except Error as error:
            return error
        self.reached = self.reached or not isinstance(found, NoResponse)
        return found

    async def drafts(self) -> Response:
        """Ask for the Drafts folder, not for the messages in it."""
        return await self.ask("GET", "mailFolders/drafts", params={"$select": "id"})

    async def draft(self, message: OutboundMessage) -> DraftRef | Response:
        """Make a draft; it keeps the message's Message-ID, unless the service replaces it."""
        body = base64.b64encode(message.message)
        response = await self.ask("POST", "messages", content=body, headers=_MIME)
        match response:
            case HttpResponse(status=201, body={"id": str(id_), "internetMessageId": str(message_id)}) if id_ and message_id:
                return DraftRef(id_, message_id if message_id.startswith("<") else f"<{message_id}>")
            case HttpResponse(status=201):
                return NoResponse("unexpected response: a draft without IDs", request_sent=True)
        return response

    async def send(self, draft: str) -> Response:
        """Send a draft; one that was sent already is not found."""
        return await self.ask("POST", f"messages/{path_segment(draft)}/send")

    async def send_mail(self, message: OutboundMessage) -> Response:
        """Send without a draft: when the answer is lost, nobody can tell."""
        return await self.ask("POST", "sendMail", content=base64.b64encode(message.message), headers=_MIME)

    # --- copies --------------------------------------------------------------------------------------------------------

    def sent_since(self, moment: str) -> AsyncIterator[Mapping[str, Any]]:
        """Id and Message-ID of each message in Sent Items from then on. Raises ServiceUnavailable."""
        params = {"$filter": f"sentDateTime ge {moment}", "$select": "id,internetMessageId", "$top": str(PAGE)}
        where = f"users/{path_segment(self.name)}/mailFolders/sentitems/messages"
        return self.graph.pages(where, mailbox=self.name, params=params, headers=IMMUTABLE)

    async def remove(self, message: str) -> Response | None:
        """Remove a message for good; None when it is gone, else the answer that refused it."""
        response = await self._removed(path_segment(message))
        return None if isinstance(response, HttpResponse) and (response.good or response.code == "ErrorItemNotFound") else response

    async def _removed(self, message: str) -> Response:
        response = await self.ask("POST", f"messages/{message}/permanentDelete")
        if not isinstance(response, HttpResponse) or response.status not in _NO_SUCH_CALL or response.code == "ErrorItemNotFound":
            return response
        response = await self.ask("DELETE", f"messages/{message}")  # into Deleted Items, under the same immutable id
        return await self.ask("DELETE", f"messages/{message}") if isinstance(response, HttpResponse) and response.good else response

    # --- any -----------------------------------------------------------------------------------------------------------

    async def ask(self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> Response:  # noqa: ANN401  as Graph.call
        """Make one request below the mailbox; ids in the request and in the answer are immutable ones."""
        where, headers = f"users/{path_segment(self.name)}/{path}", {**IMMUTABLE, **(headers or {})}
        try:
            response = await self.graph.call(method, where, mailbox=self.name, timeout=self._timeout, headers=headers, **more)
        except Error as error:
            return error
        self.reached = self.reached or isinstance(response, HttpResponse)
        return response
