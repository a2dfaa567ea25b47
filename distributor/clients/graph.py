"""Requests to a root of Microsoft Graph, signed in, over kept HTTP/1.1 connections -> Answer, or Lost.

Nothing is repeated but a request that was answered 401, once, with a fresh token: a 401 is a definite no. What a request was about,
and whether it may be made again, only its caller knows; `pages` reads, and may. When a mailbox's requests are made: `_room.py`.
"""

from __future__ import annotations

import asyncio
import json as notation
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from distributor import __version__
from distributor.clients.app_registration import AccessToken, AppRegistration, Tell
from distributor.clients.entra import Entra, entra
from distributor.clients.http import BUSY, MAX_WAIT, HttpResponse, NoResponse, answered, date
from distributor.clients.http_errors import REACH, TRUST
from distributor.clients.retry import RetryPolicy, Sleep
from distributor.clients.throttle import Clock, RequestThrottle
from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.model.people import key_of
from distributor.model.redaction import Redactor
from distributor.model.secret import Secret

if TYPE_CHECKING:
    from distributor.clients.http_connections import HttpConnections

__all__ = ["ROOT", "GraphClient", "HttpResponse", "NoResponse", "graph", "literal", "segment", "trouble"]

ROOT = "https://graph.microsoft.com"
IN_FLIGHT = 4  # requests side by side for one mailbox; Graph refuses a fifth (facts: sending.md 1.2)
LONGEST_REFUSAL = 64 * 2**10  # bytes of an answer that is no, and is kept
_PATIENCE = RetryPolicy(5, timedelta(seconds=10), MAX_WAIT)  # with one page


def segment(text: str) -> str:
    """A mailbox's address or an opaque id as one segment of a path."""
    if text in {"", ".", ".."}:
        raise ValueError("not a segment of a path")
    return quote(text, safe="")


def literal(text: str) -> str:
    """A text inside an OData expression."""
    return "'" + text.replace("'", "''") + "'"


def graph(
    sign_in: AppRegistration, root: str = ROOT, *, key: str = "transport", tell: Tell | None = None, sleep: Sleep = asyncio.sleep
) -> GraphClient:
    """A client of one root; connects with its first request. Raises Unusable for a root that is not reached by https."""
    parts = urlsplit(root)
    if parts.scheme != "https" or not parts.hostname or parts.username is not None or parts.query:
        hint = f"write its root, such as {ROOT}"
        raise InvalidInput("Graph is reached by https, and at no other address", where=f"{key}.graph", hint=hint)
    return GraphClient(entra(sign_in, key, tell), root.rstrip("/"), sleep)


class GraphClient:
    """Requests to one root. It outlives event loops; `close` ends the connections of the one that runs."""

    skew: timedelta | None = None  # the service's clock less ours, as its last answer told

    def __init__(self, door: Entra, root: str, sleep: Sleep = asyncio.sleep, clock: Clock = time.monotonic) -> None:
        self.root = root
        self.where = urlsplit(root).netloc
        self._door = door
        self._sleep, self._clock = sleep, clock
        self._trust: ssl.SSLContext | None = None
        self._line: HttpConnections | None = None
        self._redact: tuple[Secret, Redactor] | None = None
        self._home: asyncio.AbstractEventLoop | None = None
        self._rooms: dict[str, RequestThrottle] = {}  # by mailbox

    async def token(self) -> AccessToken:
        """The token of the requests. Raises Unavailable."""
        return await self._door.token(self.root)

    async def call(  # noqa: PLR0913  the parts of a request
        self,
        method: str,
        path: str,
        *,
        mailbox: str | None = None,
        params: Mapping[str, str] | None = None,
        json: object = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 100.0,  # noqa: ASYNC109  it covers one exchange, and not the wait for a turn or a token
    ) -> HttpResponse | NoResponse:
        """One request; `path` is relative to the version, its segments are quoted already. Raises Unavailable when the sign-in fails.

        A 401 is asked again once with a fresh token, so that it takes at most two time-outs and two sign-ins, after at most SOON for its
        turn; what has no turn until then is not made: a 429 again, or Lost. A path whose last segment begins with `$` gives bytes, any
        other JSON.
        """
        query = "&".join(f"{quote(name, safe='$')}={quote(value, safe='')}" for name, value in (params or {}).items())
        url = f"{self.root}/v1.0/{path.lstrip('/')}" + (f"?{query}" if query else "")
        given = _lower(headers)
        if json is not None:
            content, given = notation.dumps(json).encode(), {"content-type": "application/json", **given}
        return await self._ask(method, url, mailbox, content, given, timeout)

    async def _ask(  # noqa: PLR0913, PLR0917
        self,
        method: str,
        url: str,
        mailbox: str | None,
        content: bytes | None,
        headers: Mapping[str, str],
        timeout: float,  # noqa: ASYNC109
    ) -> HttpResponse | NoResponse:
        token = await self.token()
        line = await self._here()
        room = self._room(mailbox)
        async with _turn(room) as refused:
            if refused is not None:
                return refused
            response = await self._exchange(line, method, url, content, headers, token, timeout)
            if isinstance(response, HttpResponse) and response.status == 401:  # noqa: PLR2004
                token = await self._door.renewed(self.root, token)
                response = await self._exchange(line, method, url, content, headers, token, timeout)
            if room is not None:
                room.heard(response)
            return response

    async def _exchange(  # noqa: PLR0913, PLR0917
        self,
        line: HttpConnections,
        method: str,
        url: str,
        content: bytes | None,
        headers: Mapping[str, str],
        token: AccessToken,
        timeout: float,  # noqa: ASYNC109
    ) -> HttpResponse | NoResponse:
        signed = {**headers, "authorization": f"Bearer {token.secret.reveal()}", "user-agent": f"distributor/{__version__}"}
        came = await line.exchange(method, url, content, signed, timeout)
        if isinstance(came, NoResponse):
            return came
        now = datetime.now(UTC)
        if (theirs := date(came.headers.get("date", ""))) is not None:
            self.skew = theirs - now
        redact = self._redactor(token)
        headers = {name: redact(value) for name, value in came.headers.items()}
        content = came.content if came.status < 300 else redact(came.content[:LONGEST_REFUSAL].decode("utf-8", "replace")).encode()  # noqa: PLR2004
        raw = urlsplit(url).path.rpartition("/")[2].startswith("$")
        return answered(came.status, headers, content, raw=raw, now=now)

    def _redactor(self, token: AccessToken) -> Redactor:
        """What cuts the token out of an answer that repeats it."""
        if self._redact is None or self._redact[0] != token.secret:
            self._redact = token.secret, Redactor([token.secret])
        return self._redact[1]

    def _room(self, mailbox: str | None) -> RequestThrottle | None:
        return None if mailbox is None else self._rooms.setdefault(key_of(mailbox), RequestThrottle(IN_FLIGHT, self._sleep, self._clock))

    async def _here(self) -> HttpConnections:
        """The connections of the loop that runs; those of one that has ended are of no use."""
        from distributor.clients import http_connections  # noqa: PLC0415  heavy, and --help asks nobody

        if self._trust is None:
            made = await asyncio.to_thread(ssl.create_default_context)  # the system's trust and SSL_CERT_FILE
            self._trust = self._trust or made
        loop = asyncio.get_running_loop()
        if self._home is not loop:
            self._line, self._home, self._rooms = None, loop, {}
        self._line = self._line or http_connections.HttpConnections(self._trust)
        return self._line

    async def close(self) -> None:
        """Close the connections; the next request makes new ones."""
        line, self._line = self._line, None
        if line is not None and self._home is asyncio.get_running_loop():
            await line.close()

    # --- lists -----------------------------------------------------------------------------------------------------

    async def pages(
        self,
        path: str,
        *,
        mailbox: str | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[Mapping[str, Any]]:
        """The items of a list, page after page; waits where the service is busy. Raises Unavailable."""
        response = await self._patient(lambda: self.call("GET", path, mailbox=mailbox, params=params, headers=headers))
        while True:
            for item in _items(response, self.where):
                yield item
            link = (response.body or {}).get("@odata.nextLink")
            if link is None:
                return
            response = await self._patient(self._next(link, mailbox, headers))

    def _next(
        self, link: object, mailbox: str | None, headers: Mapping[str, str] | None
    ) -> Callable[[], Awaitable[HttpResponse | NoResponse]]:
        return lambda: self.follow(link, mailbox=mailbox, headers=headers)

    async def follow(
        self,
        link: object,
        *,
        mailbox: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 100.0,  # noqa: ASYNC109  as that of `call`
    ) -> HttpResponse | NoResponse:
        """The next page of a list; `link` as the page before had it. Raises Unavailable where it lies elsewhere or the sign-in fails."""
        return await self._ask("GET", self._own(link), mailbox, None, _lower(headers), timeout)

    def _own(self, link: object) -> str:
        """A link is followed as it stands, but only to where the token may go."""
        if not isinstance(link, str) or not _same_origin(link, self.root):
            hint = "check `graph`, and what is between it and here; the token was not sent there"
            raise ServiceUnavailable("the next page is said to lie at another address", where=self.where, hint=hint)
        return link

    async def _patient(self, ask: Callable[[], Awaitable[HttpResponse | NoResponse]]) -> HttpResponse:
        response = await _PATIENCE.call(ask, self._sleep)
        if isinstance(response, NoResponse) or not response.good:
            raise trouble(response, self.where)
        return response


def _lower(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {name.lower(): value for name, value in (headers or {}).items()}


def _turn(room: RequestThrottle | None) -> AbstractAsyncContextManager[HttpResponse | NoResponse | None]:
    """A turn in a mailbox's room; at once where it is none's."""
    return nullcontext() if room is None else room.slot()


def _items(page: HttpResponse, where: str) -> list[Mapping[str, Any]]:
    found = (page.body or {}).get("value")
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ServiceUnavailable("the list that was asked for is none", where=where, hint=_ODD)
    return found


def _same_origin(link: str, root: str) -> bool:
    """Both as httpx2 reads them, since it is what connects."""
    from httpx2 import URL, InvalidURL  # noqa: PLC0415

    try:
        there, here = URL(link), URL(root)
    except InvalidURL:
        return False
    return (there.scheme, there.host, there.port or 443, there.userinfo) == ("https", here.host, here.port or 443, b"")


# --- what stops a command ------------------------------------------------------------------------------------------

_ODD = "check `graph`; the same command may be repeated"
_HINTS = {  # by code, then by status (facts: sending.md 1.3)
    "Authorization_RequestDenied": "give the app the permission that this needs (User.Read.All for people, GroupMember.Read.All for "
    "groups) and grant admin consent: Entra, App registrations, API permissions",
    "ErrorAccessDenied": "let the app into this mailbox, by RBAC for Applications or its permission in Entra; it takes up to two hours",
    "MailboxNotEnabledForRESTAPI": "give the mailbox an Exchange Online licence; one that is on premises cannot be used by Graph",
    "ErrorInvalidUser": "correct the mailbox's name; nobody in this tenant has it",
    "Request_ResourceNotFound": "correct the name or id; the tenant has nothing under it",
    "Directory_ExpiredPageToken": "run the same command again; reading took longer than the service keeps its place",
    "401": "check the app registration behind `client_id`, and that `graph` and `login` are of one cloud",
    "403": "give the app the permission that this needs and grant admin consent: Entra, App registrations, API permissions",
    "404": "correct the name or id; the tenant has nothing under it",
}


def trouble(response: HttpResponse | NoResponse, where: str) -> ServiceUnavailable:
    """An answer that ends a command, or none, as it is told to a person."""
    if isinstance(response, NoResponse):
        return ServiceUnavailable(response.why, where=where, hint=TRUST if "not trusted" in response.why else REACH)
    later = f"run the same command again {response.when}" if response.status in BUSY else _ODD
    hint = _HINTS.get(response.code) or _HINTS.get(str(response.status), later)
    return ServiceUnavailable(f'the service refuses: "{response.said}"', where=where, hint=hint)
