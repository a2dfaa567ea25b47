"""Removes secrets that were sent to a server from the server's responses, and passwords from URLs. Pure.

A server may repeat a command, a part of it, in another case or broken over several lines (RFC 5321 allows any text in a reply). So a
run of at least FRAGMENT characters of any form is removed, whatever its case and the white space in it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator
from functools import cached_property
from urllib.parse import quote, quote_plus

from distributor.model.secret import Secret

FRAGMENT = 8  # characters of a secret; so many are not in a response by chance
SHORT = 4  # characters; a shorter secret is removed only as a whole word, since it is part of too many words
REDACTED = "[redacted]"
_CODE = re.compile(r"(?<!\S)(?:[245]\d\d[ -])?[245]\.\d{1,3}\.\d{1,3}(?!\S)")  # RFC 2034 has a code in each line of an answer


class Redactor:
    """Removes the secrets of one connection from texts received on it."""

    def __init__(self, secrets: Iterable[Secret | str] = ()) -> None:
        texts = (secret.reveal() if isinstance(secret, Secret) else secret for secret in secrets)
        self._texts = tuple(dict.fromkeys(text for text in texts if text.strip()))

    def __call__(self, text: str) -> str:
        """The text with REDACTED for each run of a secret."""
        if not self._texts:
            return text
        text = self._alone.sub(REDACTED, text) if self._alone else text
        return _without(text, _joined([*self._spans(text, ()), *self._spans(text, _CODE.finditer(text))]))

    def __repr__(self) -> str:
        return f"Redactor({len(self._texts)} secrets)"

    def _spans(self, text: str, between: Iterable[re.Match[str]]) -> Iterator[tuple[int, int]]:
        """The places of secrets in the text, ignoring white space and the matches of `between` inside them."""
        left_out = {place for match in between for place in range(match.start(), match.end())}
        places = [place for place, character in enumerate(text) if not character.isspace() and place not in left_out]
        squeezed = "".join(_lower(text[place]) for place in places)
        for start, end in _joined(self._found(squeezed)):
            yield places[start], places[end - 1] + 1

    def _found(self, squeezed: str) -> Iterator[tuple[int, int]]:
        for start in range(len(squeezed) - FRAGMENT + 1):
            if squeezed[start : start + FRAGMENT] in self._fragments:
                yield start, start + FRAGMENT
        for form in self._whole:
            start = squeezed.find(form)
            while start >= 0:
                yield start, start + len(form)
                start = squeezed.find(form, start + 1)

    @cached_property
    def _forms(self) -> frozenset[str]:
        return frozenset(_squeezed(form) for text in self._texts for form in _forms(text))

    @cached_property
    def _fragments(self) -> frozenset[str]:
        return frozenset(form[start : start + FRAGMENT] for form in self._forms for start in range(len(form) - FRAGMENT + 1))

    @cached_property
    def _alone(self) -> re.Pattern[str] | None:
        short = [re.escape(text.strip()) for text in self._texts if len(text.strip()) < SHORT]
        return re.compile(rf"(?<!\w)(?:{'|'.join(short)})(?!\w)", re.IGNORECASE) if short else None

    @cached_property
    def _whole(self) -> tuple[str, ...]:
        return tuple(form for form in self._forms if SHORT <= len(form) < FRAGMENT)


def _forms(text: str) -> Iterator[str]:
    """The text itself, as encoded in URLs, forms, JSON and HTML, in hexadecimal, and in base64 at each of the three offsets."""
    import html  # noqa: PLC0415  every command loads this module, and few search for a secret

    octets = text.encode("utf-8", "surrogatepass")
    yield from (text, quote(text), quote(text, safe=""), quote_plus(text), json.dumps(text)[1:-1])
    yield from (html.escape(text), html.escape(text, quote=False), octets.hex(), octets.hex(":"))
    for offset in range(3):
        encoded = base64.b64encode(bytes(offset) + octets).decode()
        inner = encoded[4 if offset else 0 :].rstrip("=")
        inner = inner[: len(inner) - (1 if (len(octets) + offset) % 3 else 0)]  # the last depends on what follows
        yield from (inner, inner.replace("+", "-").replace("/", "_"))


def _squeezed(text: str) -> str:
    return "".join(_lower(character) for character in text if not character.isspace())


def _lower(character: str) -> str:
    """The lower-case character; unchanged where that would be several."""
    lower = character.lower()
    return lower if len(lower) == 1 else character


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Merge spans that overlap or touch."""
    joined: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((start, end))
    return joined


def _without(text: str, spans: Iterable[tuple[int, int]]) -> str:
    parts, last = [], 0
    for start, end in spans:
        parts += [text[last:start], REDACTED]
        last = end
    return "".join([*parts, text[last:]])


# --- urls --------------------------------------------------------------------------------
#
# Hides passwords in URLs before they are shown. Pure.
#
# A URL whose password is not escaped can be parsed in several ways; everything is hidden that is a password in any of them.


HIDDEN = "***"
_SHOWN = frozenset(  # query parameters that are shown; any other may be a secret (libpq: sslpassword, passfile, service ...)
    {
        *("application_name", "channel_binding", "connect_timeout", "dbname", "host", "hostaddr", "port", "user", "sslmode"),
        *("gssencmode", "keepalives", "keepalives_count", "keepalives_idle", "keepalives_interval", "load_balance_hosts", "sslcert"),
        *(
            "sslcrl",
            "sslnegotiation",
            "sslrootcert",
            "ssl_min_protocol_version",
            "target_session_attrs",
            "tcp_user_timeout",
        ),
    }
)
_USER = re.compile(r"[\w.%+-]+")
_REST = re.compile(r"(?:\[[\da-fA-F:.]+\]|[\w.,-]*)(?::\d+(?:,:?\d+)*)?(?:/[\w./%~+: -]*)?")  # hosts, ports, path


def is_unambiguous(url: str) -> bool:
    """Whether the URL can be parsed in one way only: special characters in user, password and query are escaped."""
    _, there, rest = url.partition("://")
    before, _, query = rest.partition("?")
    named, _, place = before.rpartition("@")
    return bool(there) and "@" not in query and not set("@/#") & set(named) and named.count(":") <= 1 and bool(_REST.fullmatch(place))


def without_password(url: str) -> str:
    """The URL with HIDDEN in place of every password."""
    kind, there, rest = url.partition("://")
    if not there:
        return HIDDEN if set(url) & set("@?=") else url
    if rest.startswith("/") and "?" not in rest:
        return url  # a file's path
    named, at, rest = rest.rpartition("@")
    place, asks, query = rest.partition("?")
    if "?" in named or not _REST.fullmatch(place):
        return f"{kind}://{HIDDEN}"
    user, colon, _ = named.partition(":")
    user = user if _USER.fullmatch(user) and (colon or user == named) else HIDDEN if named else ""
    return f"{kind}://{user}{f':{HIDDEN}' if colon else ''}{at}{place}{asks}{'&'.join(map(_parameter, re.split('[&;]', query)))}"


def _parameter(text: str) -> str:
    name, equals, _ = text.partition("=")
    return text if name.lower() in _SHOWN or not text else f"{name}={HIDDEN}" if equals else HIDDEN
