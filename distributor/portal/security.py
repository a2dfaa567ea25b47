"""What protects every request: methods, size of the body, headers of the response, where a form came from, rate limits, the request log."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import logging
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from limits import RateLimitItem, RateLimitItemPerHour, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from distributor.model.people import escape_unsafe


class OneLine(logging.Filter):
    """Escapes control characters: a line of the log may quote a path or an id that a visitor sent."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Every record, with its message escaped."""
        record.msg, record.args = escape_unsafe(record.getMessage()), ()
        return True


log = logging.getLogger("distributor.portal")
log.addFilter(OneLine())

LARGEST_BODY = 16 * 2**10  # bytes of a form; a reason has at most 500 characters
LARGEST_QUERY = 8 * 2**10  # bytes; a provider's response has some 2000
MOST_FIELDS = 20
BODY_SECONDS = 10.0  # for a form to arrive
FORM = "application/x-www-form-urlencoded"
HEADERS: Mapping[str, str] = {
    "strict-transport-security": "max-age=31536000",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), clipboard-read=(), clipboard-write=(self)",
}
NO_STORE = "no-store"


def content_security_policy(*form_targets: str) -> str:
    """The policy of a page whose forms may lead, by redirect, to these origins besides our own."""
    targets = " ".join(("'self'", *form_targets))
    return (
        "default-src 'none'; style-src 'self'; img-src 'self'; script-src 'self'; "
        f"form-action {targets}; base-uri 'none'; frame-ancestors 'none'"
    )


# --- rate limits -----------------------------------------------------------------------------------------------------


# By address, which all people of an organisation may share, so these are wide:
SIGN_INS = RateLimitItemPerMinute(600, namespace="sign-in")
FAILURES = RateLimitItemPerHour(60, namespace="failure")  # returns that belong to no sign-in; those that do are not counted
# By account:
WRITES = RateLimitItemPerMinute(30, namespace="write")
REVEALS = RateLimitItemPerHour(60, namespace="reveal")
SEARCHES = RateLimitItemPerMinute(60, namespace="search")
IPV6_NETWORK = 64  # bits of an IPv6 address that are counted: whoever has one address has the whole network


class RateLimits:
    """Counts in the memory of this process: several replicas allow so much each. What must hold exactly is counted in the ledger."""

    def __init__(self) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def allow(self, item: RateLimitItem, who: str) -> bool:
        """Count one use; whether it is within the limit."""
        return self._limiter.hit(item, who)


def address_of(text: str) -> str:
    """The IP address of an entry of X-Forwarded-For, to which some proxies add a port; empty where it is none."""
    text = text.strip()
    bracketed, _, _ = text.removeprefix("[").partition("]")
    for each in (text, bracketed, text.rpartition(":")[0]):
        try:
            return str(ipaddress.ip_address(each))
        except ValueError:
            continue
    return ""


def network_of(address: str) -> str:
    """What rate limits count instead of an address."""
    try:
        network = ipaddress.ip_network((address, IPV6_NETWORK), strict=False) if ":" in address else None
    except ValueError:
        return address
    return address if network is None else str(network)


# --- forms -----------------------------------------------------------------------------------------------------------


def comes_from_us(headers: Mapping[str, str], origin: str) -> bool:
    """Whether a form was sent from one of our pages, as the browser reports it; the hidden token is checked besides.

    Our pages send no referrer, so Chromium reports the origin of their forms as "null".
    """
    site, from_origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is not None and site != "same-origin":
        return False
    return from_origin in {None, "null", origin}


def same_token(given: str, wanted: str) -> bool:
    """Whether the hidden token of a form is the visitor's; in constant time."""
    return hmac.compare_digest(given.encode(), wanted.encode())


def fields_of(text: bytes) -> Mapping[str, str] | None:
    """The fields of a form or a query; None where they are too many, repeated, not UTF-8, or contain NUL, which PostgreSQL refuses."""
    try:
        pairs = parse_qsl(text.decode("ascii"), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError:
        return None
    found = dict(pairs)
    return found if len(found) == len(pairs) and not any("\0" in value for value in found.values()) else None


# --- every request ---------------------------------------------------------------------------------------------------


_ONE = "or else the rate limits count all visitors as one"
_PACKAGE = Path(__file__).parents[1]


def place_of(error: Exception) -> str:
    """The type of an error of our own and where it was raised; its text may hold a secret."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _PACKAGE in Path(frame.filename).parents]
    place = f" in {Path(frames[-1].filename).relative_to(_PACKAGE)} line {frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{place}"


class Guard:
    """The outermost layer. Reads the fields of query and form into the request's state; routes see nothing else of them."""

    def __init__(self, app: ASGIApp, *, url: str, forwarded: bool) -> None:
        parts = urlsplit(url)
        self._app, self._forwarded, self._warned = app, forwarded, False
        self._origin = f"{parts.scheme}://{parts.netloc}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        visitor = self._address(scope, headers)

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = with_headers(message["headers"])
                path = bytes(scope.get("raw_path") or b"/").partition(b"?")[0].decode("ascii", "replace")[:200]
                taken = (time.perf_counter() - began) * 1000
                log.info("%s %s %d %.0f ms from %s", scope["method"], path, message["status"], taken, visitor)
            await send(message)

        refusal = await self._read(scope, headers, receive)
        if refusal is None:
            scope.setdefault("state", {}).update(visitor=visitor, headers=headers)
        try:
            await (refusal or self._app)(scope, receive, answer)
        except Exception as error:  # noqa: BLE001  uvicorn would log its text
            log.error("internal error: %s", place_of(error))  # noqa: TRY400  without it

    def _address(self, scope: Scope, headers: Mapping[str, str]) -> str:
        """The visitor's address. Of X-Forwarded-For the last entry counts: the proxy in front wrote it."""
        connected, forwarded = str((scope.get("client") or ("",))[0]), headers.get("x-forwarded-for")
        if self._forwarded:
            return address_of((forwarded or "").rpartition(",")[2]) or connected
        if forwarded is not None and not self._warned:
            self._warned = True
            log.warning("a request has X-Forwarded-For, which is ignored: if your proxy sets it, set portal.forwarded = true, %s", _ONE)
        return connected

    async def _read(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> ASGIApp | None:  # noqa: PLR0911  a line a refusal
        """Put the fields into the request's state; a response where the request is refused."""
        if scope["method"] not in {"GET", "HEAD", "POST"}:
            return _plain(405, "method not allowed", {"allow": "GET, HEAD, POST"})
        query = fields_of(scope["query_string"]) if len(scope["query_string"]) <= LARGEST_QUERY else None
        if query is None or "\0" in scope["path"]:
            return _plain(400, "bad request")
        form: Mapping[str, str] | None = {}
        if scope["method"] == "POST":
            if headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
                return _plain(415, "unsupported media type")
            if not comes_from_us(headers, self._origin):
                return _plain(403, "forbidden")
            body = await _body(receive)
            if body is None:
                return _plain(413, "too large")
            form = fields_of(body)
            if form is None:
                return _plain(400, "bad request")
        scope.setdefault("state", {}).update(query=query, form=form)
        return None


async def _body(receive: Receive) -> bytes | None:
    """The body; None where it is too large or arrives too slowly."""
    taken = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            while True:
                message = await receive()
                if message["type"] != "http.request":
                    return None
                taken += message.get("body", b"")
                if len(taken) > LARGEST_BODY:
                    return None
                if not message.get("more_body"):
                    return bytes(taken)
    except TimeoutError:
        return None


def _plain(status: int, text: str, headers: Mapping[str, str] | None = None) -> ASGIApp:
    return PlainTextResponse(text, status, headers=dict(headers or {}))


def with_headers(given: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The headers of a response with ours, unless it has its own."""
    names = {name.lower() for name, _ in given}
    ours: dict[str, Any] = {**HEADERS, "cache-control": NO_STORE, "content-security-policy": content_security_policy()}
    return [*given, *((name.encode(), value.encode()) for name, value in ours.items() if name.encode() not in names)]
