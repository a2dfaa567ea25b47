"""Sessions of the portal, kept in the ledger under the SHA-256 of their cookie, so that several replicas share them (ASVS 7).

Sign-ins that have begun are kept in the same table, encrypted with a key that only the visitor's cookie contains.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from cryptography.fernet import Fernet, InvalidToken

from distributor.model.requests import Sessions, SignInAccount, StoredSession
from distributor.model.sign_in import SignedIn

IDLE = timedelta(minutes=15)
LONGEST = timedelta(hours=8)
SIGN_IN_TIME = timedelta(minutes=10)  # that a person has at the provider
FRESH = timedelta(minutes=5)  # since the person last proved who it is, before a password is shown
SEEN_EVERY = timedelta(minutes=1)  # a session's last use is written so often, not at every page
LONGEST_TOKEN = 64  # characters of a cookie that is looked up; ours have 43


class Role(StrEnum):
    """What somebody may do besides looking after their own certificates."""

    ADMINISTRATOR = "administrator"
    HELPDESK = "helpdesk"
    AUDITOR = "auditor"


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who is signed in. `address`: the person whose certificates these are, where there is one."""

    token: str = field(repr=False)
    account: SignInAccount
    created: datetime
    seen: datetime
    address: str | None = None
    name: str = ""
    roles: frozenset[Role] = frozenset()
    groups: frozenset[str] = frozenset()  # those that the configuration named at the sign-in
    authenticated_at: datetime | None = None
    language: str = ""  # of the messages that the person gets

    @property
    def by(self) -> str:
        """Who acts, as events name it."""
        return f"portal:{self.account.subject}"

    def is_fresh(self, now: datetime) -> bool:
        """Whether the person proved who it is within the last five minutes."""
        return self.authenticated_at is not None and now - self.authenticated_at <= FRESH


@dataclass(frozen=True, slots=True)
class BegunSignIn:
    """A sign-in that has begun: what msal needs to finish it, and the page to show afterwards."""

    flow: dict[str, Any] = field(repr=False)
    target: str


def new_token() -> str:
    """256 random bits for a cookie."""
    return secrets.token_urlsafe(32)


def form_token(cookie: str) -> str:
    """The hidden token of forms that are shown to the holder of a cookie."""
    return hmac.new(cookie.encode(), b"form", hashlib.sha256).hexdigest()


def stored(cookie: str) -> str:
    """The name under which a cookie's session is kept."""
    return hashlib.sha256(cookie.encode()).hexdigest()


class SessionStore:
    """Reads and writes sessions."""

    def __init__(self, ledger: Sessions, now: Callable[[], datetime]) -> None:
        self._ledger, self._now = ledger, now

    def begin(self, who: SignedIn, address: str | None, roles: frozenset[Role], language: str) -> Session:
        """A new session with a new token."""
        now = self._now()
        session = Session(new_token(), who.account, now, now, address, who.name, roles, who.groups, who.authenticated_at, language)
        self._ledger.write_session(StoredSession(stored(session.token), now, now, json.dumps(_as_json(session))))
        return session

    def find(self, cookie: str) -> Session | None:
        """The session of a cookie, unless it has ended; notes that it is in use."""
        if not 0 < len(cookie) <= LONGEST_TOKEN:
            return None
        found, now = self._ledger.read_session(stored(cookie)), self._now()
        if found is None or now - found.seen > IDLE or now - found.created > LONGEST:
            return None
        values = json.loads(found.data)
        if values["kind"] != "session":
            return None
        if now - found.seen > SEEN_EVERY:
            self._ledger.touch_session(found.token, now)
        return _session(cookie, found, values)

    def end(self, *cookies: str) -> int:
        """End sessions; how many there were."""
        return self._ledger.end_sessions([stored(cookie) for cookie in cookies if cookie])

    def tidy(self) -> int:
        """Delete what has ended by itself."""
        now = self._now()
        return self._ledger.end_sessions(before=now - LONGEST, idle_since=now - IDLE)

    # --- sign-ins that have begun ----------------------------------------------------------------------------------

    def keep_sign_in(self, begun: BegunSignIn) -> str:
        """Keep a sign-in that has begun; the cookie by which it goes on."""
        cookie, now = new_token(), self._now()
        sealed = _cipher(cookie).encrypt(json.dumps([begun.flow, begun.target]).encode())
        data = json.dumps({"kind": "sign-in", "sealed": sealed.decode()})
        self._ledger.write_session(StoredSession(stored(cookie), now, now, data))
        return cookie

    def take_sign_in(self, cookie: str) -> BegunSignIn | None:
        """The sign-in of a cookie, once, within ten minutes."""
        if not 0 < len(cookie) <= LONGEST_TOKEN:
            return None
        found = self._ledger.read_session(stored(cookie))
        if found is None or self._now() - found.created > SIGN_IN_TIME:
            return None
        values = json.loads(found.data)
        if values["kind"] != "sign-in" or self._ledger.end_sessions([found.token]) != 1:
            return None
        try:
            flow, target = json.loads(_cipher(cookie).decrypt(values["sealed"].encode()))
        except InvalidToken:
            return None
        return BegunSignIn(flow, target)


def _cipher(cookie: str) -> Fernet:
    return Fernet(urlsafe_b64encode(hmac.new(cookie.encode(), b"sign-in", hashlib.sha256).digest()))


def _as_json(session: Session) -> Mapping[str, object]:
    at = session.authenticated_at
    return {
        "kind": "session",
        "issuer": session.account.issuer,
        "subject": session.account.subject,
        "address": session.address,
        "name": session.name,
        "roles": sorted(session.roles),
        "groups": sorted(session.groups),
        "authenticated_at": None if at is None else at.isoformat(),
        "language": session.language,
    }


def _session(cookie: str, found: StoredSession, values: Mapping[str, Any]) -> Session:
    at = values["authenticated_at"]
    return Session(
        cookie,
        SignInAccount(values["issuer"], values["subject"]),
        found.created,
        found.seen,
        values["address"],
        values["name"],
        frozenset(map(Role, values["roles"])),
        frozenset(values["groups"]),
        None if at is None else datetime.fromisoformat(at),
        values["language"],
    )
