"""`ldaps://host:636` -> an LdapEndpoint, or a BadUrl with the reason."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from distributor.model.urls import without_password

LDAP, LDAPS = 389, 636  # ports
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_FORM = "write ldaps://ldap.example.org or ldap://ldap.example.org, with a port where it is another than 636 or 389"


@dataclass(frozen=True, slots=True)
class LdapEndpoint:
    """A server. `security` is "tls" from the first byte, "starttls", or "none"."""

    host: str
    port: int
    security: str

    @property
    def scheme(self) -> str:
        """`ldaps` or `ldap`."""
        return "ldaps" if self.security == "tls" else "ldap"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.literal}:{self.port}"

    @property
    def literal(self) -> str:
        """The host as a URL has it."""
        return f"[{self.host}]" if ":" in self.host else self.host


@dataclass(frozen=True, slots=True)
class BadUrl:
    """Why a URL cannot be used, and what to do."""

    reason: str
    hint: str = _FORM


def read(url: str, *, starttls: bool = True) -> LdapEndpoint | BadUrl:
    """The server that a URL names."""
    try:
        parts = urlsplit(url.strip())
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        return BadUrl(f'"{without_password(url)}" is not a URL of a server')
    if parts.scheme not in {"ldap", "ldaps"}:
        return BadUrl(f'"{without_password(url)}" does not begin with ldap:// or ldaps://')
    if parts.username is not None or parts.path not in {"", "/"} or parts.query or parts.fragment:
        return BadUrl("a server's URL has no path, no question and no password in it", "put them into `base`, `filter` and `password`")
    if not (_HOST.fullmatch(host) or _is_ip(host)):
        return BadUrl(f'"{without_password(url)}" names no server')
    if parts.scheme == "ldaps":
        return LdapEndpoint(host, port or LDAPS, "tls")
    return LdapEndpoint(host, port or LDAP, "starttls" if starttls else "none")


def is_loopback(host: str) -> bool:
    """Whether it is a name or address of this machine, without DNS."""
    return host.lower() == "localhost" or (_is_ip(host) and ipaddress.ip_address(host).is_loopback)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
