"""The bytes and headers of an HTTP response -> HttpResponse in Graph's terms, or NoResponse where they make no sense. Pure."""

from __future__ import annotations

import base64
import json
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

from distributor.model.people import bounded
from distributor.model.redaction import Redactor

LONGEST_RETRY_AFTER = timedelta(hours=24)  # of Retry-After; longer ones are cut
MAX_WAIT = timedelta(minutes=2)  # a Retry-After that is waited for; a longer one is left to the next run (CLI: send)
BUSY = frozenset({429, 503})  # statuses that say "later"
_EMPTY = frozenset({202, 204})  # statuses that may come without a body


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A well-formed response of any status; `code` is Graph's error code.

    `detail` is one line, bounded and harmless: '429 ApplicationThrottled: Application is over its MailboxConcurrency limit.'
    `content` is kept where something else than JSON was requested. Names of headers are in lower case. `again` is `retry_after` as a
    time.
    """

    status: int
    code: str
    detail: str
    body: Mapping[str, Any] | None = None
    retry_after: timedelta | None = None
    request_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = field(default=b"", repr=False)
    again: datetime | None = None

    @property
    def good(self) -> bool:
        """Whether the service did what was asked."""
        return 200 <= self.status < 300  # noqa: PLR2004  the first digit is the class

    def retry_after_exceeds(self, longest: timedelta) -> bool:
        """Whether Retry-After is longer than that."""
        return self.retry_after is not None and self.retry_after > longest

    @property
    def when(self) -> str:
        """When to try again, in words: "after 2026-11-30 14:06 UTC", in full minutes and never too early."""
        return "later" if self.again is None else f"after {minute(self.again)}"


@dataclass(frozen=True, slots=True)
class NoResponse:
    """No well-formed response. `request_sent` False: certainly nothing of the request was written to the service."""

    why: str
    request_sent: bool


def parse_response(status: int, headers: Mapping[str, str], content: bytes, *, raw: bool, now: datetime) -> HttpResponse | NoResponse:
    """Parse a response; `raw`: something else than JSON was requested."""
    good, shaped = 200 <= status < 300, _object(content)  # noqa: PLR2004
    if good and not raw and shaped is None and (content.strip() or status not in _EMPTY):
        return NoResponse(f"unexpected response: {status} {_phrase(status)}, not JSON", request_sent=True)
    error = _table(shaped or {}, "error") if not good else {}
    code, message = _text(error, "code"), _text(error, "message")
    wait = retry_after(headers.get("retry-after", ""), now)
    return HttpResponse(
        status,
        code,
        bounded(f"{status} {code or _phrase(status)}: {message}" if message else f"{status} {code or _phrase(status)}"),
        shaped if not raw or not good else None,
        wait,
        bounded(headers.get("request-id", "") or _text(_table(error, "innerError"), "request-id")),
        headers,
        content if raw and good else b"",
        None if wait is None else now + wait,
    )


def minute(moment: datetime) -> str:
    """The first full minute that is not before it."""
    full = moment.astimezone(UTC) + timedelta(seconds=60) - timedelta.resolution
    return f"{full:%Y-%m-%d %H:%M} UTC"


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "(an unknown status)"


def _object(content: bytes) -> Mapping[str, Any] | None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _table(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = table.get(name)
    return found if isinstance(found, dict) else {}


def _text(table: Mapping[str, Any], name: str) -> str:
    found = table.get(name)
    return found if isinstance(found, str) else ""


def retry_after(text: str, now: datetime) -> timedelta | None:
    """Retry-After (RFC 9110 10.2.3): seconds or a date; None where there is none that makes sense."""
    text = text.strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return min(timedelta(seconds=min(float(text), LONGEST_RETRY_AFTER.total_seconds())), LONGEST_RETRY_AFTER)
    moment = date(text)
    return None if moment is None else min(max(moment - now, timedelta()), LONGEST_RETRY_AFTER)


def date(text: str) -> datetime | None:
    """A date as HTTP writes it."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


# --- http errors --------------------------------------------------------------------------------
# The exception of a failed connection -> the reason in plain words. Libraries wrap exceptions, so the whole chain is searched.


TRUST = "use the host name in the service's certificate, or trust its issuer: SSL_CERT_FILE=issuer.pem"
REACH = "check the network, the host name, and HTTPS_PROXY and NO_PROXY"
_CUT = ("disconnected", "closed", "reset", "incomplete", "broken", "aborted")


def describe_error(error: BaseException, seconds: float) -> str:
    """Why there is no response; `seconds`: the time-out."""
    chain = list(_chain(error))
    known = next(filter(None, (_known(each, seconds) for each in chain)), None)
    if any("proxy" in type(each).__name__.lower() for each in chain):
        return f"the proxy: {known or bounded(Redactor(_of_proxies())(str(chain[-1])))}"
    return known or _guessed(" ".join(str(each) for each in chain).lower())


def _of_proxies() -> Iterator[str]:
    """The passwords of the environment's proxies, alone and as in Proxy-Authorization."""
    from urllib.request import getproxies  # noqa: PLC0415  slow to load, and needed only here

    for url in getproxies().values():
        named, at, _ = url.rpartition("://")[2].rpartition("@")
        if at:
            yield unquote(named.partition(":")[2])
            yield base64.b64encode(unquote(named).encode()).decode()


def _guessed(words: str) -> str:
    return "the connection was cut" if not words.strip() or any(word in words for word in _CUT) else "unexpected response"


def untrusted(error: BaseException) -> bool:
    """Whether the verification of the service's certificate failed."""
    return any(isinstance(each, ssl.SSLCertVerificationError) for each in _chain(error))


def _known(error: BaseException, seconds: float) -> str | None:  # noqa: PLR0911  a line a reason
    match error:
        case ssl.SSLCertVerificationError(verify_message=why):
            return f'the certificate is not trusted: "{bounded(why)}"'
        case ssl.SSLEOFError():
            return "the connection was cut"
        case ssl.SSLError(reason=str(why)):
            return f"TLS failed: {bounded(why.replace('_', ' ').lower())}"
        case socket.gaierror():
            return "no such host"
        case TimeoutError():
            return f"no answer in {seconds:g} s"
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number).lower()
        case _ if "timeout" in type(error).__name__.lower():
            return f"no answer in {seconds:g} s"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those that it wraps, the innermost last; of a group its first."""
    while error is not None:
        yield error
        inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
        error = inner or error.__cause__ or error.__context__
