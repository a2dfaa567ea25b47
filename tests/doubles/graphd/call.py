"""One request to Graph on its way through the double: who asks, for what, and the forms in which the answers come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tests.doubles.graphd.contract import Operation
from tests.doubles.graphd.faults import Fault
from tests.doubles.graphd.mailbox import Item, Mailbox
from tests.doubles.graphd.odata import Clause, Unreadable, Unsupported, parse, read_token, token
from tests.doubles.graphd.refusals import Refusal, json_answer
from tests.doubles.graphd.state import ServiceState
from tests.doubles.graphd.wire import Answer, Request


@dataclass
class Call:
    """`claims` are those of the token, believed once the caller was let in."""

    service: ServiceState
    request: Request
    operation: Operation
    params: dict[str, str]
    claims: dict[str, Any]
    query: dict[str, Any] = field(default_factory=dict)
    body: Any = None
    fault: Fault | None = None

    @property
    def app(self) -> str:
        return str(self.claims.get("appid", ""))

    @property
    def now(self) -> float:
        return self.service.clock.now()

    @property
    def immutable(self) -> bool:
        return 'idtype="immutableid"' in self.request.headers.get("prefer", "").lower()

    @property
    def rewrites(self) -> bool:
        return self.fault is not None and self.fault.do == "rewrite-message-id"

    @property
    def advanced(self) -> bool:
        """Whether the caller asked for the directory's advanced queries."""
        return self.request.headers.get("consistencylevel", "").lower() == "eventual" and self.query.get("$count") is True

    def mailbox(self) -> Mailbox:
        """Raises Refusal for nobody, or for somebody without a mailbox."""
        given = self.params["user-id"]
        if self.service.directory.user(given) is None:
            raise Refusal(404, "ErrorInvalidUser", f"The requested user '{given}' is invalid.")
        mailbox = self.service.mailbox(given)
        if mailbox is None:
            text = "The mailbox is either inactive, soft-deleted, or is hosted on-premise."
            raise Refusal(404, "MailboxNotEnabledForRESTAPI", text)
        return mailbox

    def item(self, mailbox: Mailbox) -> Item:
        item = mailbox.find(self.params["message-id"])
        if item is None or (item.leaves is not None and self.service.settings.under_way == "hidden"):
            raise not_found()
        return item

    def clauses(self, code: str, *, deaf_to_or: bool = False) -> list[Clause]:
        """The $filter. `code` is what this part of Graph calls a filter it cannot serve."""
        text = self.query.get("$filter")
        if text is None:
            return []
        try:
            return parse(text, deaf_to_or=deaf_to_or)
        except Unreadable as wrong:
            raise Refusal(400, "BadRequest", f"Invalid filter clause: {wrong}") from wrong
        except Unsupported as wrong:
            raise Refusal(400, code, f"The query filter contains one or more invalid nodes: '{wrong}'.") from wrong

    def selection(self, kind: str) -> list[str] | None:
        """$select, or None for whatever comes by default."""
        text = self.query.get("$select")
        if text is None:
            return None
        names = [name.strip() for name in text.split(",")]
        for name in names:
            if name not in self.service.properties[kind]:
                text = f"Parsing OData Select and Expand failed: Could not find a property named '{name}' on type 'microsoft.graph.{kind}'."
                raise Refusal(400, "BadRequest", text)
        return names

    def page_size(self, default: int) -> int:
        cap = self.service.settings.page_cap
        size = int(self.query.get("$top", default))
        return min(size, cap) if cap else size

    def link(self, **changes: object) -> str:
        """The URL of this request with some of its query replaced, for a client to follow as it stands."""
        query = {**dict(self.request.query), **{f"${name}": str(value) for name, value in changes.items()}}
        return self.url() + "?" + "&".join(f"{quote(name, safe='$')}={quote(value, safe='')}" for name, value in query.items())

    def url(self) -> str:
        return f"{self.service.graph}/v1.0/" + "/".join(quote(part, safe="") for part in self.request.segments[2:])

    def context(self, rest: str) -> dict[str, str]:
        return {"@odata.context": f"{self.service.graph}/v1.0/$metadata#{rest}"}

    def skipped(self) -> int:
        """Where a page begins; a token that is not ours, or that has expired, is refused."""
        text = self.query.get("$skiptoken")
        if text is None:
            return 0
        try:
            place, generation = read_token(text)
        except ValueError as wrong:
            raise Refusal(400, "BadRequest", "The skip token is invalid.") from wrong
        if generation != self.service.directory.page_tokens:
            text = "The specified page token value has expired and can no longer be included in your request."
            raise Refusal(400, "Directory_ExpiredPageToken", text)
        return int(place)

    def next_token(self, place: int) -> str:
        return token([place, self.service.directory.page_tokens])

    def say(self, value: object, status: int = 200) -> Answer:
        return json_answer(status, value)


def not_found() -> Refusal:
    return Refusal(404, "ErrorItemNotFound", "The specified object was not found in the store.")
