"""Authenticated requests to Microsoft Graph over kept HTTP/1.1 connections -> HttpResponse or NoResponse.

Only a request that was answered 401 is repeated, once, with a fresh token: a 401 means that nothing was done. Only the caller of any
other request knows whether it may be repeated; `pages` only reads, and does. Requests of a mailbox are throttled by `throttle.py`.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import UTC, datetime, timedelta
from json import dumps
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from distributor import __version__
from distributor.clients.app_registration import AccessToken, AppRegistration, Tell
from distributor.clients.entra import Entra, entra
from distributor.clients.http import BUSY, MAX_WAIT, REACH, TRUST, HttpResponse, NoResponse, date, parse_response
from distributor.clients.throttle import Clock, RequestThrottle, RetryPolicy, Sleep
from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.model.people import key_of
from distributor.model.redaction import Redactor
from distributor.model.secret import Secret

if TYPE_CHECKING:
    from distributor.clients.http_connections import HttpConnections


__all__ = ["ROOT", "GraphClient", "HttpResponse", "NoResponse", "graph", "odata_literal", "path_segment", "service_error"]

ROOT = "https://graph.microsoft.com"
IN_FLIGHT = 4  # requests side by side for one mailbox; Graph refuses a fifth (facts: sending.md 1.2)
IMMUTABLE = {"Prefer": 'IdType="ImmutableId"'}  # an id that a move does not change; a send may (facts: sending.md 1.4)
LONGEST_REFUSAL = 64 * 2**10  # bytes of an error response that are kept
_RETRIES = RetryPolicy(5, timedelta(seconds=10), MAX_WAIT)  # of one page


def path_segment(text: str) -> str:
    """A mailbox's address or an opaque id as one segment of a path."""
    if text in {"", ".", ".."}:
        raise ValueError("not a path segment")
    return quote(text, safe="")


def odata_literal(text: str) -> str:
    """A string literal in an OData expression."""
    return "'" + text.replace("'", "''") + "'"


def graph(
    sign_in: AppRegistration, root: str = ROOT, *, key: str = "transport", tell: Tell | None = None, sleep: Sleep = asyncio.sleep
) -> GraphClient:
    """A client of one root URL; connects with its first request. Raises InvalidInput for a root without https."""
    parts = urlsplit(root)
    if parts.scheme != "https" or not parts.hostname or parts.username is not None or parts.query:
        hint = f"write its root, such as {ROOT}"
        raise InvalidInput("not an https URL with only a host", where=f"{key}.graph", hint=hint)
    return GraphClient(entra(sign_in, key, tell), root.rstrip("/"), sleep)


class GraphClient:
    """Requests to one root URL. Works in one event loop after another; `close` closes the connections of the running one."""

    skew: timedelta | None = None  # the service's clock minus ours, by its last response

    def __init__(self, tokens: Entra, root: str, sleep: Sleep = asyncio.sleep, clock: Clock = time.monotonic) -> None:
        self.root = root
        self.where = urlsplit(root).netloc
        self._tokens = tokens
        self._sleep, self._clock = sleep, clock
        self._trust: ssl.SSLContext | None = None
        self._connections: HttpConnections | None = None
        self._redact: tuple[Secret, Redactor] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._throttles: dict[str, RequestThrottle] = {}  # by mailbox

    async def token(self) -> AccessToken:
        """The access token of the requests. Raises ServiceUnavailable."""
        return await self._tokens.token(self.root)

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
        timeout: float = 100.0,  # noqa: ASYNC109  it covers one exchange, not the wait for a slot or a token
        largest: int | None = None,
        version: str = "v1.0",
    ) -> HttpResponse | NoResponse:
        """One request; `path` is relative to the version, its segments are quoted already. Raises ServiceUnavailable if the sign-in fails.

        Takes at most MAX_WAIT for a slot of the mailbox and, with a 401, two time-outs and two sign-ins. Without a slot the request
        is not sent, and the result is the 429 of before, or NoResponse. A path whose last segment begins with `$` gives bytes, others JSON.
        `largest`: how many bytes of the content are read; the rest is dropped. `version`: v1.0, or beta where that has the call alone.
        """
        query = "&".join(f"{quote(name, safe='$')}={quote(value, safe='')}" for name, value in (params or {}).items())
        url = f"{self.root}/{version}/{path.lstrip('/')}" + (f"?{query}" if query else "")
        given = _lower(headers)
        if json is not None:
            content, given = dumps(json).encode(), {"content-type": "application/json", **given}
        return await self._ask(method, url, mailbox, content, given, timeout, largest)

    async def _ask(  # noqa: PLR0913, PLR0917
        self,
        method: str,
        url: str,
        mailbox: str | None,
        content: bytes | None,
        headers: Mapping[str, str],
        timeout: float,  # noqa: ASYNC109
        largest: int | None = None,
    ) -> HttpResponse | NoResponse:
        token = await self.token()
        connections = await self._open_connections()
        throttle = self._throttle(mailbox)
        async with _slot(throttle) as refused:
            if refused is not None:
                return refused
            response = await self._exchange(connections, method, url, content, headers, token, timeout, largest)
            if isinstance(response, HttpResponse) and response.status == 401:  # noqa: PLR2004
                token = await self._tokens.renewed(self.root, token)
                response = await self._exchange(connections, method, url, content, headers, token, timeout, largest)
            if throttle is not None:
                throttle.record(response)
            return response

    async def _exchange(  # noqa: PLR0913, PLR0917
        self,
        connections: HttpConnections,
        method: str,
        url: str,
        content: bytes | None,
        headers: Mapping[str, str],
        token: AccessToken,
        timeout: float,  # noqa: ASYNC109
        largest: int | None,
    ) -> HttpResponse | NoResponse:
        signed = {**headers, "authorization": f"Bearer {token.secret.reveal()}", "user-agent": f"distributor/{__version__}"}
        reply = await connections.exchange(method, url, content, signed, timeout, largest)
        if isinstance(reply, NoResponse):
            return reply
        now = datetime.now(UTC)
        if (theirs := date(reply.headers.get("date", ""))) is not None:
            self.skew = theirs - now
        redact = self._redactor(token)
        headers = {name: redact(value) for name, value in reply.headers.items()}
        content = reply.content if reply.status < 300 else redact(reply.content[:LONGEST_REFUSAL].decode("utf-8", "replace")).encode()  # noqa: PLR2004
        raw = urlsplit(url).path.rpartition("/")[2].startswith("$")
        return parse_response(reply.status, headers, content, raw=raw, now=now)

    def _redactor(self, token: AccessToken) -> Redactor:
        """Removes the token from a response that repeats it."""
        if self._redact is None or self._redact[0] != token.secret:
            self._redact = token.secret, Redactor([token.secret])
        return self._redact[1]

    def _throttle(self, mailbox: str | None) -> RequestThrottle | None:
        return (
            None if mailbox is None else self._throttles.setdefault(key_of(mailbox), RequestThrottle(IN_FLIGHT, self._sleep, self._clock))
        )

    async def _open_connections(self) -> HttpConnections:
        """The connections of the running event loop; those of another loop cannot be used."""
        from distributor.clients import http_connections  # noqa: PLC0415  heavy, and --help sends no request

        if self._trust is None:
            made = await asyncio.to_thread(ssl.create_default_context)  # the system's trust and SSL_CERT_FILE
            self._trust = self._trust or made
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._connections, self._loop, self._throttles = None, loop, {}
        self._connections = self._connections or http_connections.HttpConnections(self._trust)
        return self._connections

    async def close(self) -> None:
        """Close the connections; the next request opens new ones."""
        connections, self._connections = self._connections, None
        if connections is not None and self._loop is asyncio.get_running_loop():
            await connections.close()

    # --- lists -----------------------------------------------------------------------------------------------------

    async def pages(
        self,
        path: str,
        *,
        mailbox: str | None = None,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        version: str = "v1.0",
    ) -> AsyncIterator[Mapping[str, Any]]:
        """The items of a list, page by page; waits and retries while the service is busy. Raises ServiceUnavailable."""
        response = await self._with_retries(
            lambda: self.call("GET", path, mailbox=mailbox, params=params, headers=headers, version=version)
        )
        while True:
            for item in _items(response, self.where):
                yield item
            link = (response.body or {}).get("@odata.nextLink")
            if link is None:
                return
            response = await self._with_retries(self._next(link, mailbox, headers))

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
        """The next page of a list by its `@odata.nextLink`. Raises ServiceUnavailable for another origin, or if the sign-in fails."""
        return await self._ask("GET", self._own(link), mailbox, None, _lower(headers), timeout)

    def _own(self, link: object) -> str:
        """The link itself, if its origin is the one that the token is for."""
        if not isinstance(link, str) or not _same_origin(link, self.root):
            hint = "check `graph`, and any proxy in between; no token was sent to it"
            raise ServiceUnavailable("the next page is on another server", where=self.where, hint=hint)
        return link

    async def _with_retries(self, ask: Callable[[], Awaitable[HttpResponse | NoResponse]]) -> HttpResponse:
        response = await _RETRIES.call(ask, self._sleep)
        if isinstance(response, NoResponse) or not response.good:
            raise service_error(response, self.where)
        return response


def _lower(headers: Mapping[str, str] | None) -> dict[str, str]:
    return {name.lower(): value for name, value in (headers or {}).items()}


def _slot(throttle: RequestThrottle | None) -> AbstractAsyncContextManager[HttpResponse | NoResponse | None]:
    """A slot of a mailbox's throttle; requests without a mailbox need none."""
    return nullcontext() if throttle is None else throttle.slot()


def _items(page: HttpResponse, where: str) -> list[Mapping[str, Any]]:
    found = (page.body or {}).get("value")
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ServiceUnavailable("unexpected response: not a list", where=where, hint=_ODD)
    return found


def _same_origin(link: str, root: str) -> bool:
    """Whether both have the same origin, parsed by httpx2, which connects."""
    from httpx2 import URL, InvalidURL  # noqa: PLC0415

    try:
        there, here = URL(link), URL(root)
    except InvalidURL:
        return False
    return (there.scheme, there.host, there.port or 443, there.userinfo) == ("https", here.host, here.port or 443, b"")


# --- errors ------------------------------------------------------------------------------------------

_ODD = "check `graph`, then run the command again"
_HINTS = {  # by code, then by status (facts: sending.md 1.3)
    "Authorization_RequestDenied": "grant the app the permission (User.Read.All for people, GroupMember.Read.All for "
    "groups) and grant admin consent: Entra, App registrations, API permissions",
    "ErrorAccessDenied": "give the app access to this mailbox with RBAC for Applications, and wait up to two hours "
    "(see docs/exchange-online.md#2a-graph-limited-to-this-mailbox)",
    "MailboxNotEnabledForRESTAPI": "give the mailbox an Exchange Online licence; Graph cannot use an on-premises mailbox",
    "ErrorInvalidUser": "correct the mailbox name; it does not exist in this tenant",
    "Directory_ExpiredPageToken": "run the command again; the service dropped the list before it was read to the end",
    "401": "check the app registration behind `client_id`, and that `graph` and `login` belong to the same cloud",
    "403": "grant the app the permission with admin consent: Entra, App registrations, API permissions",
    "404": "correct the name or ID; it does not exist in the tenant",
}


def service_error(response: HttpResponse | NoResponse, where: str) -> ServiceUnavailable:
    """The error of a failed request."""
    if isinstance(response, NoResponse):
        return ServiceUnavailable(response.why, where=where, hint=TRUST if "not trusted" in response.why else REACH)
    later = f"run the command again {response.when}" if response.status in BUSY else _ODD
    hint = _HINTS.get(response.code) or _HINTS.get(str(response.status), later)
    return ServiceUnavailable(f'the service refused: "{response.detail}"', where=where, hint=hint)
