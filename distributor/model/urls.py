"""Hides passwords in URLs before they are shown. Pure.

A URL whose password is not escaped can be parsed in several ways; everything is hidden that is a password in any of them.
"""

from __future__ import annotations

import re

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
