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
    """An app registration of a tenant and how it proves itself: keys of `[transport]`, of `oauth = {...}`, of rosters and trackers.

    Exactly one of certificate, secret, managed_identity, assertion and device_code.
    """

    tenant: str = ""
    client_id: str = ""
    certificate: Secret | None = None  # PEM, key and certificate in any order, or a PFX that comes armoured
    certificate_password: Secret | None = None
    secret: Secret | None = None
    managed_identity: bool = False  # `client_id` then names a user-assigned one; without it the machine's own
    assertion: Path | None = None  # workload identity: `file:PATH` or the path alone, of a file that is read at every use
    device_code: bool = False  # a person's sign-in, for a trial
    login: str = "https://login.microsoftonline.com"


def registration(settings: AppRegistration) -> AppRegistration:
    """The registration alone, so that adapters of one registration share one sign-in."""
    return AppRegistration(**{field.name: getattr(settings, field.name) for field in fields(AppRegistration)})


@dataclass(frozen=True, slots=True)
class AccessToken:
    """An access token and what it says of itself: an app's permissions are roles, a person's are scopes."""

    secret: Secret
    roles: frozenset[str]
    scopes: frozenset[str]
    expires_at: datetime | None

    @property
    def holder(self) -> str:
        """The object id of who signed in: of an app, that of its enterprise application. Empty where the token does not tell."""
        oid = self._claims.get("oid")
        return oid if isinstance(oid, str) else ""

    @property
    def readable(self) -> bool:
        """Whether it tells anything, so that a permission that is not in it is not granted."""
        return bool(self._claims)

    @property
    def skew(self) -> timedelta | None:
        """The service's clock less ours: it wrote the token's end by its own, and told beside it how long that is from now."""
        end = self._claims.get("exp")
        if not isinstance(end, int) or self.expires_at is None:
            return None
        return datetime.fromtimestamp(end, UTC) - self.expires_at

    @property
    def _claims(self) -> Mapping[str, object]:
        return claims(self.secret.reveal())


def claims(token: str) -> Mapping[str, object]:
    """What a token says of itself; it is not verified, for it is not ours to believe. Nothing of one that is no JWT."""
    try:
        middle = token.split(".")[1]
        found = json.loads(base64.urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))
    except (IndexError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


class SignInUnavailable(ServiceUnavailable):
    """The sign-in service gave no answer, or said "later": nothing is wrong with the configuration. Exit 4."""


@dataclass(frozen=True, slots=True)
class CallerContext:
    """How one user of a sign-in sees it: its table in the configuration, and how a device code reaches a person."""

    key: str
    tell: Tell | None
