"""SMTP submission (RFC 5321, 6409): a pool of kept connections, each message driven verb by verb so that its phase is always known.

The ledger's ARM runs beside the DATA command and is awaited before the first byte of the message: until then everything is
proved unsent; after it only a reply tells, and without one the message is ambiguous.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from distributor.adapters.transports.smtp.authentication import Authenticator
from distributor.adapters.transports.smtp.check import examine
from distributor.adapters.transports.smtp.connect import ConnectFailure, Login, Server, connect, is_loopback
from distributor.adapters.transports.smtp.envelope import dot_stuff, mail, rcpt, validate_message
from distributor.adapters.transports.smtp.replies import Lost, Phase, Reply, classify_reply
from distributor.adapters.transports.smtp.session import Session
from distributor.clients.app_registration import AccessToken, AppRegistration, Tell
from distributor.clients.entra import check, entra
from distributor.errors import InvalidInput
from distributor.model.delivery import Account
from distributor.model.issues import Diagnostic
from distributor.model.outcomes import Ambiguous, NotSent, OutboundMessage, Outcome, Rejected
from distributor.model.ports import CommitIntent
from distributor.model.secret import Secret

LAST_PORT = 65_535


@dataclass(frozen=True)
class Settings:
    """`[transport]` of kind smtp. Time-outs in seconds, those of RFC 5321 4.5.3.2 but for a shorter one while connecting."""

    host: str
    port: int = 587
    tls: str = "starttls"  # starttls | implicit | none
    connections: int = 4
    username: str | None = None
    password: Secret | None = None
    oauth: AppRegistration | None = None
    resource: str = "https://outlook.office365.com"  # what a token is for; config.tables knows that of other clouds' hosts
    per_minute: float | None = None
    daily: int | None = None  # most messages of one mailbox in 24 hours
    hostname: str | None = None  # our name in EHLO
    connect_timeout: float = 60.0
    reply_timeout: float = 300.0
    data_timeout: float = 120.0
    dot_timeout: float = 600.0  # a server may take ten minutes; giving up sooner makes doubled messages


def open(settings: Settings, accounts: Sequence[Account] = (), *, tell: Tell | None = None) -> SmtpTransport:  # noqa: A001  as every adapter
    """The transport; connects when its first message goes. Raises Unusable for a configuration that would send in clear.

    `tell` shows a person the code of a sign-in by device code.
    """
    _check(settings, accounts)
    return SmtpTransport(settings, accounts, tell)


def _check(settings: Settings, accounts: Sequence[Account]) -> None:
    if not 1 <= settings.port <= LAST_PORT:
        raise InvalidInput(f"{settings.port} is no port", where="transport.port", hint="submission is 587, with implicit encryption 465")
    if settings.connections < 1:
        raise InvalidInput(f"{settings.connections} connections carry nothing", where="transport.connections", hint="write at least 1")
    if settings.per_minute is not None and settings.per_minute <= 0:
        raise InvalidInput(
            f"{settings.per_minute:g} messages a minute are none", where="transport.rate", hint='write a rate such as "30/min"'
        )
    if settings.daily is not None and settings.daily < 1:
        raise InvalidInput(f"{settings.daily} messages a day are none", where="transport.daily", hint="write at least 1, or remove it")
    if settings.tls not in {"starttls", "implicit", "none"}:
        raise InvalidInput(f'"{settings.tls}" is not a kind of encryption', where="transport.tls", hint="write starttls, implicit or none")
    if settings.tls == "none" and not is_loopback(settings.host):
        hint = 'write `tls = "starttls"`; only a server on this very machine may be used without'
        raise InvalidInput(f'messages to "{settings.host}" would travel in clear', where="transport.tls", hint=hint)
    if settings.tls == "none" and (settings.password is not None or any(account.password is not None for account in accounts)):
        hint = 'write `tls = "starttls"`, or remove `transport.password`'
        raise InvalidInput("the password would travel in clear", where="transport.tls", hint=hint)
    if settings.oauth is not None:
        _check_oauth(settings, settings.oauth)


def _check_oauth(settings: Settings, oauth: AppRegistration) -> None:
    if settings.password is not None:
        raise InvalidInput(
            "a password and a token exclude each other", where="transport.oauth", hint="remove one of `password` and `oauth`"
        )
    if settings.tls == "none":
        hint = 'write `tls = "starttls"`; a token is never sent in clear, not even on this very machine'
        raise InvalidInput("the token would travel in clear", where="transport.tls", hint=hint)
    if not settings.resource.startswith("https://"):
        raise InvalidInput("this is no service", where="transport.resource", hint="write its root, such as https://outlook.office365.com")
    if (fault := check(oauth, "transport.oauth")) is not None:
        raise fault


class SmtpTransport:
    """The road over one server."""

    def __init__(self, settings: Settings, accounts: Sequence[Account], tell: Tell | None = None) -> None:
        self.max_connections = settings.connections
        self.per_minute = settings.per_minute
        self.daily = settings.daily
        # the ARM is durable before DATA's answer came, so both time-outs count, and a margin
        self.attempt_timeout = timedelta(seconds=settings.data_timeout + settings.dot_timeout + 30)
        self.settings = settings
        self.server = Server(settings.host, settings.port, settings.tls, settings.hostname, settings.connect_timeout)
        self.reached = False  # whether any connection of this run was answered
        self._accounts = {account.address: account for account in accounts}
        door = entra(settings.oauth, "transport.oauth", tell) if settings.oauth is not None else None
        self._signing = Authenticator(settings.password, door, settings.resource)
        self._trust: ssl.SSLContext | None = None

    def connection(self, sender: str | None = None) -> SmtpConnection:
        """A lane, not yet connected, that signs in as the sender's account."""
        return SmtpConnection(self, self._accounts.get(sender or "") or self._only(sender))

    def _only(self, sender: str | None = None) -> Account:
        """Who signs in where no accounts are told apart."""
        return Account(sender or "", self.settings.username)

    def tracker(self) -> None:
        """A mail server answers no questions afterwards."""

    async def finish(self, *, settled: bool = True) -> list[Diagnostic]:
        """Lanes have said goodbye already."""
        del settled
        return []

    # --- connections -----------------------------------------------------------------------------------------------

    async def connect(self, account: Account) -> Session | ConnectFailure:
        """One more connection, signed in."""
        return await self._signing.dial(account, self._connect)

    async def _connect(self, login: Login | None) -> Session | ConnectFailure:
        if self.server.tls != "none" and self._trust is None:
            self._trust = await asyncio.to_thread(ssl.create_default_context)  # the system's trust and SSL_CERT_FILE
        found = await connect(self.server, self._trust, login)
        if isinstance(found, Session) or not found.unreachable:
            self.reached = True
        return found

    def classify_reply(self, verb: Phase, response: Reply | Lost) -> Outcome | None:
        """What an answer means for a message; None: go on."""
        return classify_reply(verb, response, self.server.where, oauth=self._signing.by_token)

    def unconnected(self, down: ConnectFailure) -> NotSent:
        """What it means for a message that there is no connection."""
        if down.final:
            return NotSent(str(down.error), fatal=down.error)
        outcome = self.classify_reply(down.verb, down.heard)
        if down.unreachable:
            never = None if self.reached else down.error
            return NotSent(str(down.error), fatal=never)
        if not isinstance(outcome, NotSent):
            return NotSent(str(down.error), fatal=down.error)
        return replace(outcome, fatal=down.error) if outcome.fatal and down.error.hint else outcome

    # --- doctor ----------------------------------------------------------------------------------------------------

    async def check(self) -> list[Diagnostic]:
        """What `doctor` says of the server, of each account's sign-in, and of the app."""
        return await examine(self, list(self._accounts.values()) or [self._only()])

    async def token(self) -> AccessToken | None:
        """That of all connections; None where passwords are used. Raises Unavailable."""
        return await self._signing.token()

    def signed_in(self, account: Account) -> str:
        """As whom, in words."""
        return self._signing.told(account)


class SmtpConnection:
    """One kept connection, made when needed and again when the server hung up between two messages."""

    def __init__(self, transport: SmtpTransport, account: Account) -> None:
        self._road = transport
        self._account = account
        self._session: Session | None = None

    async def deliver(self, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        """Carry one message; see core.ports.Lane."""
        try:
            if fault := validate_message(message):
                return Rejected(fault, content=True)
            return await self._carry(message, record_intent)
        except BaseException:  # cancelled, or the ledger failed: the server must not be left with half a message
            if self._session is not None:
                self._session.abort()
            raise

    async def close(self) -> None:
        """Say goodbye."""
        session, self._session = self._session, None
        if session is not None:
            await session.quit()

    async def _carry(self, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        match await self._begun(message):
            case Session() as session:
                outcome = await self._rest(session, message, record_intent)
                if isinstance(outcome, Ambiguous | NotSent):
                    session.abort()  # what comes next on it could not be trusted
                return outcome
            case outcome:
                return outcome

    async def _begun(self, message: OutboundMessage) -> Session | Outcome:
        """A connection on which MAIL was accepted. A kept one may have died of idleness: then one new one is tried, silently."""
        kept = self._session
        if kept is not None and kept.open:
            outcome, stale = await self._mail(kept, message)
            if outcome is None:
                return kept
            if not stale:
                return outcome
        match await self._road.connect(self._account):
            case ConnectFailure() as down:
                return self._road.unconnected(down)
            case session:
                self._session = session
        outcome, _ = await self._mail(session, message)
        return session if outcome is None else outcome

    async def _mail(self, session: Session, message: OutboundMessage) -> tuple[Outcome | None, bool]:
        """What MAIL came to (None: accepted), and whether only the connection was at fault."""
        timeout, transport = self._road.settings.reply_timeout, self._road
        used = session.messages > 0 or session.dirty
        if session.dirty:
            response = await session.say(b"RSET", timeout=timeout)
            if outcome := transport.classify_reply(Phase.RSET, response):
                session.abort()
                return outcome, True
            session.dirty = False
        words = mail(message, session.offers)
        if isinstance(words, Rejected):
            return words, False
        response = await session.say(*words, timeout=timeout)
        outcome = transport.classify_reply(Phase.MAIL, response)
        session.dirty = outcome is None
        if isinstance(outcome, NotSent):
            session.abort()
        return outcome, used and not session.open

    async def _rest(self, session: Session, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        settings, transport = self._road.settings, self._road
        response = await session.say(*rcpt(message, session.offers), timeout=settings.reply_timeout)
        if outcome := transport.classify_reply(Phase.RCPT, response):
            return outcome
        arming = asyncio.ensure_future(record_intent())  # beside the round trip of DATA
        response = await session.say(b"DATA", timeout=settings.data_timeout)
        if not await arming:
            return NotSent("another sender holds this message")
        if outcome := transport.classify_reply(Phase.DATA, response):
            return outcome
        return await self._dot(session, message)

    async def _dot(self, session: Session, message: OutboundMessage) -> Outcome:
        response = await session.finish(dot_stuff(message.message), timeout=self._road.settings.dot_timeout)
        if response is None:
            return NotSent("the connection was cut before the message went")
        session.dirty = False
        session.messages += 1
        return self._road.classify_reply(Phase.END_OF_DATA, response) or Ambiguous("no answer")
