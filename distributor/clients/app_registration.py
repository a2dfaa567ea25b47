"""An app registration, the access tokens it gets, and the error when none is to be had. No I/O."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from pathlib import Path

from distributor.errors import ServiceUnavailable
from distributor.model.secret import Secret

CREDENTIAL_KINDS = ("certificate", "secret", "assertion", "managed_identity", "device_code")
Tell = Callable[[str], None]


@dataclass(frozen=True)
class AppRegistration:
    """An app registration of a tenant and its credential: keys of `[transport]`, of `oauth = {...}`, of rosters and trackers.

    Exactly one of certificate, secret, managed_identity, assertion and device_code.
    """

    tenant: str = ""
    client_id: str = ""
    certificate: Secret | None = None  # PEM, key and certificate in any order, or an armoured PFX
    certificate_password: Secret | None = None
    secret: Secret | None = None
    managed_identity: bool = False  # `client_id` then names a user-assigned one; without it the machine's own
    assertion: Path | None = None  # workload identity: `file:PATH` or the path alone; the file is read at every use
    device_code: bool = False  # a person signs in, for a trial
    login: str = "https://login.microsoftonline.com"


def registration(settings: AppRegistration) -> AppRegistration:
    """The registration alone, so that adapters of one registration share one sign-in."""
    return AppRegistration(**{field.name: getattr(settings, field.name) for field in fields(AppRegistration)})


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An access token and its permissions: roles of an app, scopes of a person."""

    secret: Secret
    roles: frozenset[str]
    scopes: frozenset[str]
    expires_at: datetime | None

    @property
    def holder(self) -> str:
        """The object id of the person or the enterprise application that signed in; empty where the token has none."""
        oid = self._claims.get("oid")
        return oid if isinstance(oid, str) else ""

    @property
    def readable(self) -> bool:
        """Whether its claims can be read, so that a permission that is not among them is not granted."""
        return bool(self._claims)

    @property
    def skew(self) -> timedelta | None:
        """The service's clock minus ours, by the token's `exp` (its clock) and the response's `expires_in` (a duration)."""
        end = self._claims.get("exp")
        if not isinstance(end, int) or self.expires_at is None:
            return None
        return datetime.fromtimestamp(end, UTC) - self.expires_at

    @property
    def _claims(self) -> Mapping[str, object]:
        return claims(self.secret.reveal())


def claims(token: str) -> Mapping[str, object]:
    """The claims of a token, not verified: only the service relies on them. Empty for one that is no JWT."""
    try:
        middle = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    except (IndexError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class SignInUnavailable(ServiceUnavailable):
    """The sign-in service cannot be reached or is busy: nothing is wrong with the configuration. Exit 4."""


@dataclass(frozen=True, slots=True)
class CallerContext:
    """Who asks for a token: its table in the configuration, and how a device code is shown to a person."""

    key: str
    tell: Tell | None
