"""A package for Intune's certificate connector -> the JSON that Graph takes, frozen as a small message; and what a record tells.

A record is a user and a certificate: its id is made of both, so that importing twice changes one record and never makes two. Reading it
shows neither package nor password (facts: intune.md 4).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from distributor.model.people import Address

RECORDS = "deviceManagement/userPfxCertificates"
_HEADER = "To: {}\r\nContent-Type: application/json\r\n\r\n"
_ID = re.compile(r"[0-9a-f]{32}-[0-9a-f]{40}")


class Padding(StrEnum):
    """How a package's password is encrypted for the connector; older schemes are refused."""

    SHA256 = "oaepSha256"
    SHA384 = "oaepSha384"
    SHA512 = "oaepSha512"


@dataclass(frozen=True, slots=True)
class ConnectorKey:
    """The connector's key as Windows names it on the connector's machine, and how passwords are encrypted to it."""

    provider: str
    name: str
    padding: Padding


@dataclass(frozen=True, slots=True)
class ImportedPackage:
    """What is imported. `thumbprint`: the certificate's SHA-1 in lower-case hex; `password`: encrypted to the connector's key."""

    thumbprint: str
    usages: tuple[str, ...]
    not_before: datetime
    not_after: datetime
    package: str  # base64
    password: str  # base64

    @property
    def purpose(self) -> str:
        """The tag by which a profile finds it. A record has one: a certificate for both is tagged for encryption, and signs as well."""
        return "smimeSigning" if self.usages == ("sign",) else "smimeEncryption"


def freeze(person: Address, what: ImportedPackage, key: ConnectorKey) -> bytes:
    """The import as it lies in the outbox: a recipient, and the JSON without the user's sign-in name, which may change until it is sent."""
    body = {
        "thumbprint": what.thumbprint,
        "intendedPurpose": what.purpose,
        "startDateTime": _written(what.not_before),
        "expirationDateTime": _written(what.not_after),
        "providerName": key.provider,
        "keyName": key.name,
        "paddingScheme": key.padding.value,
        "encryptedPfxBlob": what.package,
        "encryptedPfxPassword": what.password,
    }
    return _HEADER.format(person).encode() + json.dumps(body, separators=(",", ":")).encode()


def thaw(message: bytes, user_principal_name: str) -> dict[str, str]:
    """The JSON of a frozen import, complete."""
    body: dict[str, str] = json.loads(message.partition(b"\r\n\r\n")[2])
    return {**body, "userPrincipalName": user_principal_name}


def _written(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def record_id(user: str, thumbprint: str) -> str:
    """The id of the record of a user (their object id) and a certificate."""
    return f"{user.replace('-', '').lower()}-{thumbprint.lower()}"


def is_record_id(text: str) -> bool:
    """Whether this is the id of a record."""
    return bool(_ID.fullmatch(text))


_COMPARED = ("thumbprint", "intendedPurpose", "userPrincipalName", "providerName", "keyName", "paddingScheme")
_TIMES = ("startDateTime", "expirationDateTime")


def differences(record: Mapping[str, Any], wanted: Mapping[str, str]) -> list[str]:
    """The fields in which a record is not what was imported; blob and password are never shown."""
    other = [name for name in _COMPARED if str(record.get(name) or "").lower() != wanted[name].lower()]
    return other + [name for name in _TIMES if not _same_time(record.get(name), wanted[name])]


def _same_time(found: object, wanted: str) -> bool:
    try:
        return datetime.fromisoformat(str(found)).replace(microsecond=0) == datetime.fromisoformat(wanted)
    except (ValueError, TypeError):
        return False
