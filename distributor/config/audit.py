"""`[audit]`: the key that signs checkpoints of the audit log, where they are published, and who puts a time stamp on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from distributor.config.converter import ConfigFault
from distributor.config.secrets import SecretRef
from distributor.model.people import Address, BadAddress, parse_address

SYSLOG_PORT = 514
_HINT = 'write "file:FOLDER", "syslog", "syslog:HOST:PORT" (UDP), "syslog+tcp:HOST:PORT" or "mail:ADDRESS"'


@dataclass(frozen=True, slots=True)
class AuditLog:
    """`[audit]`. `key` defaults to the file checkpoint.key; `timestamp`: the URL of a time-stamping authority (RFC 3161)."""

    key: SecretRef | None = None
    checkpoints: tuple[str, ...] = ()
    timestamp: str | None = None


class DestinationKind(StrEnum):
    """How checkpoints are published."""

    FILE = "file"
    LOCAL = "syslog"
    UDP = "syslog over UDP"
    TCP = "syslog over TCP"
    MAIL = "mail"


class Destination(NamedTuple):
    """Where checkpoints are published: a folder, a mailbox, or a host with a port; the local syslog has neither."""

    kind: DestinationKind
    place: str = ""
    port: int = 0


def parse_destination(text: str, folder: Path) -> Destination:
    """A destination as it is written in `audit.checkpoints`; `folder`: what a path is relative to. Raises ValueError."""
    scheme, _, place = text.partition(":")
    match scheme:
        case "file" if place:
            return Destination(DestinationKind.FILE, str(folder / Path(place).expanduser()))
        case "syslog" if text == scheme:
            return Destination(DestinationKind.LOCAL)
        case "syslog" | "syslog+tcp":
            parts = urlsplit(f"//{place}")
            if parts.hostname and not (parts.path or parts.query or parts.fragment or parts.username):
                kind = DestinationKind.TCP if scheme == "syslog+tcp" else DestinationKind.UDP
                return Destination(kind, parts.hostname, parts.port or SYSLOG_PORT)  # `port` raises ValueError
        case "mail":
            match parse_address(place):
                case Address() as address:
                    return Destination(DestinationKind.MAIL, str(address))
                case BadAddress(reason=reason):
                    raise ValueError(reason)
    raise ValueError(f'"{text[:80]}" is no place for checkpoints')


def audit_faults(audit: AuditLog, folder: Path) -> Iterator[ConfigFault]:
    """The faults of values whose types are right."""
    for number, text in enumerate(audit.checkpoints):
        try:
            parse_destination(text, folder)
        except ValueError as error:
            yield ConfigFault(f"audit.checkpoints[{number}]", str(error), _HINT)
    if audit.timestamp is not None:
        parts = urlsplit(audit.timestamp)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username:
            hint = 'write it as "http://timestamp.example.com"; http is fine, since the answer is signed'
            yield ConfigFault("audit.timestamp", f'"{audit.timestamp[:80]}" is not a web address', hint)
