"""The device code flow (RFC 8628) and refresh tokens: a code waits until the test, as the person, approves or declines it."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from tests.doubles.graphd.apps import App
from tests.doubles.graphd.refusals import Denied
from tests.doubles.graphd.state import ServiceState

LETTERS = "BCDFGHJKLMNPQRSTVWXZ"


@dataclass(frozen=True)
class Grant:
    app: str
    user: str
    resource: str
    scopes: tuple[str, ...]


@dataclass
class Waiting:
    """A code that was shown. `state` is pending, approved or declined."""

    app: str
    resource: str
    scopes: tuple[str, ...]
    user_code: str
    ends: float
    state: str = "pending"
    user: str = ""
    asked: float = field(default=float("-inf"))


class Devices:
    def __init__(self, service: ServiceState) -> None:
        self.service = service
        self.waiting: dict[str, Waiting] = {}
        self.refresh: dict[str, Grant] = {}

    def begin(self, app: App, resource: str, scopes: list[str]) -> dict[str, object]:
        settings, code = self.service.settings, secrets.token_urlsafe(48)
        user_code = "".join(secrets.choice(LETTERS) for _ in range(9))
        ends = self.service.clock.now() + settings.device_seconds
        self.waiting[code] = Waiting(app.id, resource, tuple(scopes), user_code, ends)
        page = f"{self.service.login}/device"
        return {
            "user_code": user_code,
            "device_code": code,
            "verification_uri": page,
            "expires_in": settings.device_seconds,
            "interval": settings.device_interval,
            "message": f"To sign in, use a web browser to open the page {page} and enter the code {user_code} to authenticate.",
        }

    def decide(self, user_code: str, user: str, *, approve: bool) -> None:
        """What the person does in the browser."""
        for one in self.waiting.values():
            if one.user_code == user_code and one.state == "pending":
                one.state, one.user = "approved" if approve else "declined", user
                return
        raise ValueError(f"no code {user_code} waits for anybody")

    def poll(self, app: App, code: str) -> Grant:
        one, now = self.waiting.get(code), self.service.clock.now()
        if one is None or one.app != app.id:
            raise Denied(70000, "invalid_grant", "Provided grant is invalid or malformed.")
        if one.ends <= now:
            text = "The provided value for the input parameter 'device_code' is not valid. This device code has expired."
            raise Denied(70020, "expired_token", text)
        early, one.asked = now - one.asked < self.service.settings.device_interval, now
        if one.state == "declined":
            raise Denied(70018, "authorization_declined", "The end user denied the authorization request.")
        if one.state == "pending":
            if early:
                raise Denied(70016, "slow_down", "OAuth 2.0 device flow error. The client polls too often.")
            raise Denied(70016, "authorization_pending", "OAuth 2.0 device flow error. Authorization is pending. Continue polling.")
        del self.waiting[code]
        return Grant(app.id, one.user, one.resource, one.scopes)

    def refresh_token(self, grant: Grant) -> str:
        token = f"1.{secrets.token_urlsafe(64)}"
        self.refresh[token] = grant
        return token

    def refreshed(self, app: App, token: str) -> Grant:
        grant = self.refresh.get(token)
        if grant is None or grant.app != app.id:
            text = "The refresh token has expired due to inactivity, or was revoked."
            raise Denied(700082, "invalid_grant", text)
        return grant
