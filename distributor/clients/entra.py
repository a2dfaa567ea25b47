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

from distributor.clients.app_registration import CREDENTIAL_KINDS, AccessToken, AppRegistration, CallerContext, Tell
from distributor.errors import Error, InvalidInput, ServiceUnavailable
from distributor.microsoft.permissions import GrantedPermissions
from distributor.microsoft.powershell import App

if TYPE_CHECKING:
    from distributor.clients.msal_client import Application

EARLY = timedelta(minutes=5)  # a token is renewed so long before its end; msal does the same
LAST = timedelta(seconds=30)  # one with less is not used even where no other is to be had
LIFETIME = timedelta(minutes=50)  # of a token that tells no end


class Entra:
    """Tokens of one sign-in."""

    def __init__(self, tokens: TokenCache, view: CallerContext) -> None:
        self._tokens = tokens
        self._view = view

    async def token(self, resource: str, *, fresh: bool = False) -> AccessToken:
        """A token for a service's root, such as "https://graph.microsoft.com"; `fresh`: not one that is kept. Raises Unavailable."""
        return await self._tokens.get(resource.rstrip("/"), self._view, (lambda _: False) if fresh else _current)

    async def renewed(self, resource: str, refused: AccessToken) -> AccessToken:
        """Another token than the one that a service refused; fetched once, however many were refused with it. Raises Unavailable."""
        return await self._tokens.get(resource.rstrip("/"), self._view, lambda kept: _current(kept) and kept.secret != refused.secret)


def _current(token: AccessToken) -> bool:
    return token.expires_at is None or token.expires_at - datetime.now(UTC) > EARLY


class TokenCache:
    """Those of one sign-in that are kept, and the msal application behind them. It outlives event loops."""

    def __init__(self, sign_in: AppRegistration) -> None:
        self._sign_in = sign_in
        self._kept: dict[str, tuple[float, AccessToken]] = {}  # resource -> when it came, and the token
        self._failed: dict[str, tuple[float, ServiceUnavailable]] = {}
        self._turns: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Lock] = weakref.WeakKeyDictionary()
        self._at_msal = threading.Lock()
        self._application: Application | None = None

    async def get(self, resource: str, view: CallerContext, fit: Callable[[AccessToken], bool]) -> AccessToken:
        """The kept one if it is `fit`, else a new one."""
        if (kept := self._kept.get(resource)) and fit(kept[1]):
            return kept[1]
        asked = time.monotonic()
        async with self._turns.setdefault(asyncio.get_running_loop(), asyncio.Lock()):
            if (kept := self._kept.get(resource)) and (kept[0] >= asked or fit(kept[1])):
                return kept[1]
            if (failed := self._failed.get(resource)) and failed[0] >= asked:
                raise _same(failed[1])
            return await self._fetch(resource, view, kept[1] if kept else None)

    async def _fetch(self, resource: str, view: CallerContext, kept: AccessToken | None) -> AccessToken:
        again = kept is not None and _current(kept)  # msal would give the same one
        try:
            token = await asyncio.to_thread(self._ask, resource, view, again=again)
        except asyncio.CancelledError:
            if self._application is not None:
                self._application.give_up()
            raise
        except ServiceUnavailable as error:
            if not again and kept is not None and _lasting(kept):
                return kept  # renewing failed early enough; the next who asks tries again
            self._failed[resource] = time.monotonic(), error
            raise
        self._kept[resource] = time.monotonic(), token
        return token

    def _ask(self, resource: str, view: CallerContext, *, again: bool) -> AccessToken:
        from distributor.clients.msal_client import Application  # noqa: PLC0415  heavy, and --help needs no sign-in

        with self._at_msal:  # of another loop's thread too
            self._application = self._application or Application(self._sign_in)
            token = self._application.token(resource, view, again=again)
        return token if token.expires_at else replace(token, expires_at=datetime.now(UTC) + LIFETIME)


def _lasting(token: AccessToken) -> bool:
    return token.expires_at is not None and token.expires_at - datetime.now(UTC) > LAST


def _same(error: ServiceUnavailable) -> ServiceUnavailable:
    """The same words for another who waited; an exception that is raised twice gathers both tracebacks."""
    return type(error)(error.message, where=error.where, hint=error.hint)


def granted(token: AccessToken, sign_in: AppRegistration, root: str) -> GrantedPermissions:
    """Who an app is and what its token for a service's root shows, for whoever judges it."""
    app = App(sign_in.tenant, sign_in.client_id, token.holder, root)
    return GrantedPermissions(app, token.roles, token.scopes, token.readable)


_known: dict[AppRegistration, TokenCache] = {}


def entra(sign_in: AppRegistration, key: str = "transport", tell: Tell | None = None) -> Entra:
    """Tokens of a sign-in; `key` names its table for messages, `tell` shows a device code to a person. The same one shares its tokens."""
    return Entra(_known.setdefault(sign_in, TokenCache(sign_in)), CallerContext(key, tell))


# --- what can be wrong before anybody is asked ---------------------------------------------------------------------


def check(sign_in: AppRegistration, key: str) -> Error | None:
    """What is wrong with a sign-in as it is configured; nothing is connected. A secret that was not opened counts as there."""
    given = [name for name in CREDENTIAL_KINDS if getattr(sign_in, name) not in {None, False}]
    if len(given) != 1:
        message = f"{' and '.join(given)} exclude each other" if given else "there is nothing to sign in with"
        return InvalidInput(message, where=key, hint=f"write one of {', '.join(CREDENTIAL_KINDS)}")
    if sign_in.certificate_password is not None and sign_in.certificate is None:
        return InvalidInput("a password without a certificate", where=f"{key}.certificate_password", hint="remove it")
    return _names(sign_in, key) or _login(sign_in, key) or _keys(sign_in, key)


def _names(sign_in: AppRegistration, key: str) -> Error | None:
    if sign_in.managed_identity:
        return None
    if not sign_in.tenant:
        return InvalidInput("missing", where=f"{key}.tenant", hint="write the directory ID of the tenant, or one of its domains")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", sign_in.tenant):
        return InvalidInput("this is no name of a tenant", where=f"{key}.tenant", hint="write its directory ID, or one of its domains")
    if sign_in.tenant.lower() in {"common", "organizations", "consumers"} and not sign_in.device_code:
        return InvalidInput(
            f'an app cannot sign in at "{sign_in.tenant}"', where=f"{key}.tenant", hint="write the directory ID of the tenant"
        )
    if not sign_in.client_id:
        return InvalidInput("missing", where=f"{key}.client_id", hint="write the application ID of the app registration")
    return None


def _login(sign_in: AppRegistration, key: str) -> Error | None:
    parts = urlsplit(sign_in.login)
    if parts.scheme != "https" or not parts.hostname or parts.username is not None or parts.path.strip("/") or parts.query:
        hint = "write the root of the sign-in service, such as https://login.microsoftonline.com"
        return InvalidInput("the sign-in goes over https to a host, and nowhere else", where=f"{key}.login", hint=hint)
    return None


def _keys(sign_in: AppRegistration, key: str) -> Error | None:
    if not sign_in.certificate:
        return None
    from distributor.clients.client_certificate import Faulty, keys  # noqa: PLC0415  heavy, and only where there is one to look at

    try:
        keys(sign_in.certificate, sign_in.certificate_password, datetime.now(UTC))
    except Faulty as faulty:
        return InvalidInput(faulty.message, where=f"{key}.{faulty.about}", hint=faulty.hint)
    return None
