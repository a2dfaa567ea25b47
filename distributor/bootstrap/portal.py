"""Composes the portal's parts: the OpenID provider, the vault where this host has its key, and the workflows that the portal starts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributor import bootstrap, config
from distributor.errors import InvalidInput
from distributor.model.people import key_of

if TYPE_CHECKING:
    from distributor.config.schema import Portal
    from distributor.model.ports import Ledger, Vault
    from distributor.model.secret import Secret
    from distributor.model.sign_in import IdentityProvider


def portal_settings(settings: config.Settings) -> Portal:
    """`[portal]`. Raises InvalidInput without it."""
    if settings.portal is None:
        raise InvalidInput(
            "no portal is configured", where=settings.file.name, hint="add [portal] with url, authority, client_id and secret"
        )
    return settings.portal


def missing_extra() -> str | None:
    """A package that the portal needs and that cannot be imported."""
    from importlib import import_module

    for name in ("limits", "starlette", "uvicorn"):
        try:
            import_module(name)
        except ImportError as error:
            return error.name or name
    return None


def provider(settings: config.Settings) -> IdentityProvider:
    """The OpenID provider; not asked yet. Raises InvalidInput where its secret cannot be read."""
    from distributor.clients.openid import OpenIdProvider

    portal = portal_settings(settings)
    with bootstrap.with_location(settings):
        secret = None if portal.secret is None else portal.secret.resolve("portal.secret")
    return OpenIdProvider(portal.authority, portal.client_id, secret)


def vault(settings: config.Settings) -> Vault | None:
    """The vault; None where this host has no key that opens passwords. Raises InvalidInput where the key is configured and unusable."""
    return None if settings.vault.identity is None else bootstrap.vault(settings)


def metrics_token(settings: config.Settings) -> Secret | None:
    """The bearer token that /metrics is answered to. Raises InvalidInput where it cannot be read."""
    with bootstrap.with_location(settings):
        return None if settings.metrics.token is None else settings.metrics.token.resolve("metrics.token")


def fulfil(settings: config.Settings, ledger: Ledger, address: str) -> str:
    """Plan a new generation for a person's approved requests; why one cannot be planned yet, or nothing."""
    from distributor.bootstrap import requests
    from distributor.workflows.requests import Unfulfilled

    found = requests.fulfil(settings, ledger, (key_of(address),))
    return next((each.reason for each in found if isinstance(each, Unfulfilled)), "")


def send_again(settings: config.Settings, ledger: Ledger, delivery: str, reason: str) -> None:
    """Queue an ambiguous delivery again, as `distributor resolve --again` does."""
    from distributor.bootstrap.delivery import transport
    from distributor.workers import process
    from distributor.workflows import tracking

    wait = transport(settings, signed_in=False).attempt_timeout
    tracking.send_again(ledger, delivery, reason, alive=process.is_alive, now=ledger.now(), attempt_timeout=wait)


def address_of(settings: config.Settings, object_id: str) -> str | None:
    """The address that Entra's directory has for an object id; None without a roster of kind graph, or without such a user."""
    import asyncio

    table = next((table for table in settings.rosters if table.kind == "graph"), None)
    if table is None:
        return None
    found: str | None = asyncio.run(bootstrap.open_adapter(settings, "rosters", table).address_of(object_id))
    return found
