"""The bytes and headers of an HTTP answer -> an Answer in Graph's terms, or Lost where they make no sense. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from distributor.clients._reasons import bounded

LONGEST_WISH = timedelta(hours=24)  # a service that wishes for more is not believed
_EMPTY = frozenset({202, 204})  # statuses that may come without a body


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer in good form, good or bad; `code` is Graph's own word for what is wrong.

    `said` is one line, harmless and bounded: '429 ApplicationThrottled: Application is over its MailboxConcurrency limit.'
    `content` is kept where something else than JSON was asked for. Names of headers are in lower case.
    """

    status: int
    code: str
    said: str
    body: Mapping[str, Any] | None = None
    retry_after: timedelta | None = None
    request_id: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = field(default=b"", repr=False)

    @property
    def good(self) -> bool:
        """Whether the service did what was asked."""
        return 200 <= self.status < 300  # noqa: PLR2004  the first digit is the class


@dataclass(frozen=True, slots=True)
class Lost:
    """No answer in good form. `begun` False: provably nothing of the request was written to the service."""

    why: str
    begun: bool


def answered(status: int, headers: Mapping[str, str], content: bytes, *, raw: bool, now: datetime) -> Answer | Lost:
    """What came; `raw` where something else than JSON was asked for."""
    good, shaped = 200 <= status < 300, _object(content)  # noqa: PLR2004
    if good and not raw and shaped is None and (content.strip() or status not in _EMPTY):
        return Lost(f"an answer that makes no sense: {status} {_phrase(status)}, and no JSON", begun=True)
    error = _table(shaped or {}, "error") if not good else {}
    code, message = _text(error, "code"), _text(error, "message")
    return Answer(
        status,
        code,
        bounded(f"{status} {code or _phrase(status)}: {message}" if message else f"{status} {code or _phrase(status)}"),
        shaped if not raw or not good else None,
        wish(headers.get("retry-after", ""), now),
        bounded(headers.get("request-id", "") or _text(_table(error, "innerError"), "request-id")),
        headers,
        content if raw and good else b"",
    )


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


def wish(text: str, now: datetime) -> timedelta | None:
    """Retry-After (RFC 9110 10.2.3): seconds or a date; None where there is none that makes sense."""
    text = text.strip()
    if text.isascii() and text.replace(".", "", 1).isdigit():
        return min(timedelta(seconds=min(float(text), LONGEST_WISH.total_seconds())), LONGEST_WISH)
    moment = date(text)
    return None if moment is None else min(max(moment - now, timedelta()), LONGEST_WISH)


def date(text: str) -> datetime | None:
    """A date as HTTP writes it."""
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
