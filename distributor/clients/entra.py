"""An app registration -> access tokens for services, by msal. One msal application per process and registration.

A token is fetched once however many callers ask, kept in memory only, and renewed five minutes before its end. Callers that waited while
another one asked get the same token or error, so that eight connections of one transport are one request to Entra.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from distributor.clients.app_registration import CREDENTIAL_KINDS, AccessToken, AppRegistration, CallerContext, Tell, registration
from distributor.errors import Error, InvalidInput, ServiceUnavailable
from distributor.microsoft.permissions import GrantedPermissions
from distributor.microsoft.powershell import App

if TYPE_CHECKING:
    from distributor.clients.msal_client import Application

EARLY = timedelta(minutes=5)  # a token is renewed so long before its end; msal does the same
LAST = timedelta(seconds=30)  # a token with less is not used even if no other can be had
LIFETIME = timedelta(minutes=50)  # of a token without an expiry


class Entra:
    """The access tokens of one app registration, for one caller."""

    def __init__(self, tokens: TokenCache, view: CallerContext) -> None:
        self._tokens = tokens
        self._view = view

    async def token(self, resource: str, *, fresh: bool = False) -> AccessToken:
        """A token for a service's root, such as "https://graph.microsoft.com"; `fresh`: not from the cache. Raises ServiceUnavailable."""
        return await self._tokens.get(resource.rstrip("/"), self._view, (lambda _: False) if fresh else _current)

    async def renewed(self, resource: str, refused: AccessToken) -> AccessToken:
        """Another token than the one that a service refused; fetched once for all callers with it. Raises ServiceUnavailable."""
        return await self._tokens.get(resource.rstrip("/"), self._view, lambda kept: _current(kept) and kept.secret != refused.secret)


def _current(token: AccessToken) -> bool:
    return token.expires_at is None or token.expires_at - datetime.now(UTC) > EARLY


class TokenCache:
    """The cached tokens of one app registration, and its msal application. Works in one event loop after another."""

    def __init__(self, sign_in: AppRegistration) -> None:
        self._sign_in = sign_in
        self._kept: dict[str, tuple[float, AccessToken]] = {}  # resource -> when it was fetched, and the token
        self._failed: dict[str, tuple[float, ServiceUnavailable]] = {}
        self._locks: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()
        self._msal_lock = threading.Lock()
        self._application: Application | None = None

    async def get(self, resource: str, view: CallerContext, fit: Callable[[AccessToken], bool]) -> AccessToken:
        """The cached token if it is `fit`, else a new one."""
        if (kept := self._kept.get(resource)) and fit(kept[1]):
            return kept[1]
        asked = time.monotonic()
        async with self._locks.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            if (kept := self._kept.get(resource)) and (kept[0] >= asked or fit(kept[1])):
                return kept[1]
            if (failed := self._failed.get(resource)) and failed[0] >= asked:
                raise _same(failed[1])
            return await self._fetch(resource, view, kept[1] if kept else None)

    async def _fetch(self, resource: str, view: CallerContext, kept: AccessToken | None) -> AccessToken:
        again = kept is not None and _current(kept)  # else msal returns the same one
        try:
            token = await asyncio.to_thread(self._ask, resource, view, again=again)
        except asyncio.CancelledError:
            if self._application is not None:
                self._application.give_up()
            raise
        except ServiceUnavailable as error:
            if not again and kept is not None and _lasting(kept):
                return kept  # the renewal failed while the old one still lasts; the next caller tries again
            self._failed[resource] = time.monotonic(), error
            raise
        self._kept[resource] = time.monotonic(), token
        return token

    def _ask(self, resource: str, view: CallerContext, *, again: bool) -> AccessToken:
        from distributor.clients.msal_client import Application  # noqa: PLC0415  heavy, and --help needs no sign-in

        with self._msal_lock:  # threads of other event loops use it too
            self._application = self._application or Application(self._sign_in)
            token = self._application.token(resource, view, again=again)
        return token if token.expires_at else replace(token, expires_at=datetime.now(UTC) + LIFETIME)


def _lasting(token: AccessToken) -> bool:
    return token.expires_at is not None and token.expires_at - datetime.now(UTC) > LAST


def _same(error: ServiceUnavailable) -> ServiceUnavailable:
    """A copy for another caller that waited; an exception raised twice collects both tracebacks."""
    return type(error)(error.message, where=error.where, hint=error.hint)


def granted(token: AccessToken, sign_in: AppRegistration, root: str) -> GrantedPermissions:
    """The app of a token, and the permissions in it."""
    app = App(sign_in.tenant, sign_in.client_id, token.holder, root)
    return GrantedPermissions(app, token.roles, token.scopes, token.readable)


async def fetch_granted(settings: AppRegistration, root: str, key: str) -> GrantedPermissions:
    """The app and the permissions in its token; tables of one registration share the token. Raises ServiceUnavailable."""
    who = registration(settings)
    return granted(await entra(who, key).token(root), who, root)


_caches: dict[AppRegistration, TokenCache] = {}


def entra(sign_in: AppRegistration, key: str = "transport", tell: Tell | None = None) -> Entra:
    """The tokens of a registration, cached per process; `key` names its table in messages, `tell` shows a device code to a person."""
    return Entra(_caches.setdefault(sign_in, TokenCache(sign_in)), CallerContext(key, tell))


# --- checks of the configuration -----------------------------------------------------------------------------------


def check(sign_in: AppRegistration, key: str) -> Error | None:
    """What is wrong with a configured registration, without connecting. A secret that was not opened counts as present."""
    given = [name for name in CREDENTIAL_KINDS if getattr(sign_in, name) not in {None, False}]
    if len(given) != 1:
        message = f"{' and '.join(given)} cannot be combined" if given else "no credential is configured"
        return InvalidInput(message, where=key, hint=f"write one of {', '.join(CREDENTIAL_KINDS)}")
    if sign_in.certificate_password is not None and sign_in.certificate is None:
        return InvalidInput("a password without a certificate", where=f"{key}.certificate_password", hint="remove the key")
    return _names(sign_in, key) or _login(sign_in, key) or _keys(sign_in, key)


def _names(sign_in: AppRegistration, key: str) -> Error | None:
    if sign_in.managed_identity:
        return None
    if not sign_in.tenant:
        return InvalidInput("missing", where=f"{key}.tenant", hint="write the tenant ID or one of the tenant's domains")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", sign_in.tenant):
        return InvalidInput("not a tenant ID or domain", where=f"{key}.tenant", hint="write the tenant ID or one of the tenant's domains")
    if sign_in.tenant.lower() in {"common", "organizations", "consumers"} and not sign_in.device_code:
        return InvalidInput(f'an app cannot sign in at "{sign_in.tenant}"', where=f"{key}.tenant", hint="write the tenant ID")
    if not sign_in.client_id:
        return InvalidInput("missing", where=f"{key}.client_id", hint="write the application ID of the app registration")
    return None


def _login(sign_in: AppRegistration, key: str) -> Error | None:
    parts = urlsplit(sign_in.login)
    if parts.scheme != "https" or not parts.hostname or parts.username is not None or parts.path.strip("/") or parts.query:
        hint = "write the root of the sign-in service, such as https://login.microsoftonline.com"
        return InvalidInput("not an https URL with only a host", where=f"{key}.login", hint=hint)
    return None


def _keys(sign_in: AppRegistration, key: str) -> Error | None:
    if not sign_in.certificate:
        return None
    from distributor.clients.client_certificate import load_signing_key  # noqa: PLC0415  heavy, and only needed with a certificate

    try:
        load_signing_key(sign_in.certificate, sign_in.certificate_password, datetime.now(UTC))
    except InvalidInput as error:
        return InvalidInput(error.message, where=f"{key}.{error.where}", hint=error.hint)
    return None
