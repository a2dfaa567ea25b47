"""`[transport]` of kind smtp, and what is wrong with it. Import-light: every command reads it."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Sequence
from dataclasses import dataclass

from distributor.adapters.transports import check_limits
from distributor.clients.app_registration import AppRegistration
from distributor.errors import InvalidInput
from distributor.model.delivery import Account
from distributor.model.secret import Secret

LAST_PORT = 65_535


@dataclass(frozen=True)
class Settings:
    """`[transport]` of kind smtp. Time-outs in seconds, those of RFC 5321 4.5.3.2 but for a shorter one while connecting."""

    host: str
    port: int = 587
    tls: str = "starttls"  # starttls | implicit | none
    connections: int = 4
    username: str | None = None
    password: Secret | None = None
    oauth: AppRegistration | None = None
    resource: str = "https://outlook.office365.com"  # what a token is for; config knows that of other clouds' hosts
    per_minute: float | None = None
    daily: int | None = None  # most messages of one mailbox in 24 hours
    hostname: str | None = None  # the name in EHLO
    connect_timeout: float = 60.0
    reply_timeout: float = 300.0
    data_timeout: float = 120.0
    dot_timeout: float = 600.0  # RFC 5321 allows ten minutes; giving up sooner makes duplicates


def check_settings(settings: Settings, accounts: Sequence[Account] = ()) -> None:
    """Raise InvalidInput for settings with which nothing could be sent, or in clear."""
    if not 1 <= settings.port <= LAST_PORT:
        raise InvalidInput(f"{settings.port} is not a port number", where="transport.port", hint="use 587 (STARTTLS) or 465 (implicit TLS)")
    if settings.connections < 1:
        raise InvalidInput(f"{settings.connections} is out of range", where="transport.connections", hint="write at least 1")
    check_limits(settings.per_minute, settings.daily, "write at least 1, or remove the key")
    if settings.tls not in {"starttls", "implicit", "none"}:
        raise InvalidInput(f'"{settings.tls}" is not an encryption mode', where="transport.tls", hint="write starttls, implicit or none")
    if settings.tls == "none" and not is_loopback(settings.host):
        hint = 'write `tls = "starttls"`; only a server on this machine may be used without TLS'
        raise InvalidInput(f'messages to "{settings.host}" would be unencrypted', where="transport.tls", hint=hint)
    if settings.tls == "none" and (settings.password is not None or any(account.password is not None for account in accounts)):
        hint = 'write `tls = "starttls"`, or remove `transport.password`'
        raise InvalidInput("the password would be sent unencrypted", where="transport.tls", hint=hint)
    if settings.oauth is not None:
        _check_oauth(settings, settings.oauth)


def _check_oauth(settings: Settings, oauth: AppRegistration) -> None:
    if settings.password is not None:
        raise InvalidInput(
            "`password` and `oauth` cannot be combined", where="transport.oauth", hint="remove one of `password` and `oauth`"
        )
    if settings.tls == "none":
        hint = 'write `tls = "starttls"`; a token is never sent unencrypted, not even on this machine'
        raise InvalidInput("the token would be sent unencrypted", where="transport.tls", hint=hint)
    if not settings.resource.startswith("https://"):
        raise InvalidInput(
            "not an https URL", where="transport.resource", hint="write the root of the service, such as https://outlook.office365.com"
        )
    from distributor.clients.entra import check  # noqa: PLC0415

    if (fault := check(oauth, "transport.oauth")) is not None:
        raise fault


def is_loopback(host: str) -> bool:
    """Whether every address of this host is this machine's own."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found)
