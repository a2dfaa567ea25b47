"""What a sign-in at an OpenID provider yields, and how it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from distributor.errors import RequestDenied
from distributor.model.requests import SignInAccount


class SignInRefused(RequestDenied):
    """The provider's answer is not accepted. The message is for the log: it says which check failed, without values."""


class SignInCancelled(RequestDenied):
    """The person, or the provider's policy, ended the sign-in."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """An account, as a verified ID token describes it."""

    account: SignInAccount
    entra: bool
    email: str = ""  # only one that the provider has verified
    name: str = ""
    groups: frozenset[str] = frozenset()
    groups_left_out: bool = False  # Entra leaves groups out of the token of somebody who has very many
    authenticated_at: datetime | None = None  # when the person last proved who it is


class IdentityProvider(Protocol):
    """An OpenID Connect provider, and this application as its client. Its methods block, and may be called from several threads."""

    def origins(self) -> tuple[str, ...]:
        """Schemes, hosts and ports of the pages where people sign in, as far as they are known; asks nobody."""
        ...

    def read_metadata(self) -> None:
        """Read the provider's metadata, which is then kept for some hours. Raises ServiceUnavailable, InvalidInput."""
        ...

    def start(self, redirect_uri: str, *, fresh: bool) -> tuple[str, dict[str, Any]]:
        """The provider's URL to send a person to, and what `finish` needs later; `fresh`: signed in within the last five minutes."""
        ...

    def finish(self, flow: dict[str, Any], answer: Mapping[str, str]) -> SignedIn:
        """Exchange the code for an ID token and check it. Raises SignInRefused, SignInCancelled, ServiceUnavailable, InvalidInput."""
        ...
