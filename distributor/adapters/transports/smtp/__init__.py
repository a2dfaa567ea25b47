"""SMTP submission (RFC 5321, 6409): kept connections, each message sent command by command so that its phase is always known.

The intent is recorded in the ledger during the DATA command and is durable before the first byte of the message: until then the message
is certainly unsent; after it only a reply tells, and without one the message is ambiguous.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

from distributor.adapters.transports.smtp.check import examine
from distributor.adapters.transports.smtp.connect import Authenticator, ConnectFailure, Login, Server, connect, is_loopback
from distributor.adapters.transports.smtp.replies import Lost, Phase, Reply, classify_reply, is_session_limit
from distributor.adapters.transports.smtp.session import Session, dot_stuff, mail, rcpt, validate_message
from distributor.clients.app_registration import AccessToken, AppRegistration, Tell
from distributor.clients.entra import check, entra
from distributor.errors import InvalidInput
from distributor.model.delivery import Account, Ambiguous, Deferred, NotSent, OutboundMessage, Outcome, Rejected
from distributor.model.issues import Diagnostic
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
    resource: str = "https://outlook.office365.com"  # what a token is for; config knows that of other clouds' hosts
    per_minute: float | None = None
    daily: int | None = None  # most messages of one mailbox in 24 hours
    hostname: str | None = None  # the name in EHLO
    connect_timeout: float = 60.0
    reply_timeout: float = 300.0
    data_timeout: float = 120.0
    dot_timeout: float = 600.0  # RFC 5321 allows ten minutes; giving up sooner makes duplicates


def open(settings: Settings, accounts: Sequence[Account] = (), *, tell: Tell | None = None) -> SmtpTransport:  # noqa: A001  every adapter has this name
    """The transport; connects for its first message. Raises InvalidInput for a configuration that would send in clear.

    `tell` shows a person the code of a sign-in by device code.
    """
    _check(settings, accounts)
    return SmtpTransport(settings, accounts, tell)


def _check(settings: Settings, accounts: Sequence[Account]) -> None:
    if not 1 <= settings.port <= LAST_PORT:
        raise InvalidInput(f"{settings.port} is not a port number", where="transport.port", hint="use 587 (STARTTLS) or 465 (implicit TLS)")
    if settings.connections < 1:
        raise InvalidInput(f"{settings.connections} is out of range", where="transport.connections", hint="write at least 1")
    if settings.per_minute is not None and settings.per_minute <= 0:
        raise InvalidInput(
            f"{settings.per_minute:g} messages a minute is not a positive rate",
            where="transport.rate",
            hint='write a rate such as "30/min"',
        )
    if settings.daily is not None and settings.daily < 1:
        raise InvalidInput(
            f"{settings.daily} messages a day is not a positive number", where="transport.daily", hint="write at least 1, or remove the key"
        )
    if settings.tls not in {"starttls", "implicit", "none"}:
        raise InvalidInput(f'"{settings.tls}" is not an encryption mode', where="transport.tls", hint="write starttls, implicit or none")
    if settings.tls == "none" and not is_loopback(settings.host):
        hint = 'write `tls = "starttls"`; only a server on this machine may be used without TLS'
        raise InvalidInput(f'messages to "{settings.host}" would be unencrypted', where="transport.tls", hint=hint)
    if settings.tls == "none" and (settings.password is not None or any(account.password is not None for account in accounts)):
        hint = 'write `tls = "starttls"`, or remove `transport.password`'
        raise InvalidInput("the password would be sent unencrypted", where="transport.tls", hint=hint)
    if settings.oauth is not None:
        _check_oauth(settings, settings.oauth)


def _check_oauth(settings: Settings, oauth: AppRegistration) -> None:
    if settings.password is not None:
        raise InvalidInput(
            "`password` and `oauth` cannot be combined", where="transport.oauth", hint="remove one of `password` and `oauth`"
        )
    if settings.tls == "none":
        hint = 'write `tls = "starttls"`; a token is never sent unencrypted, not even on this machine'
        raise InvalidInput("the token would be sent unencrypted", where="transport.tls", hint=hint)
    if not settings.resource.startswith("https://"):
        raise InvalidInput(
            "not an https URL", where="transport.resource", hint="write the root of the service, such as https://outlook.office365.com"
        )
    if (fault := check(oauth, "transport.oauth")) is not None:
        raise fault


class SmtpTransport:
    """Sends through one server."""

    def __init__(self, settings: Settings, accounts: Sequence[Account], tell: Tell | None = None) -> None:
        self.max_connections = settings.connections
        self.per_minute = settings.per_minute
        self.daily = settings.daily
        # the intent is durable before DATA's answer came, so both time-outs count, and a margin
        self.attempt_timeout = timedelta(seconds=settings.data_timeout + settings.dot_timeout + 30)
        self.settings = settings
        self.server = Server(settings.host, settings.port, settings.tls, settings.hostname, settings.connect_timeout)
        self.reached = False  # whether the server answered any connection of this run
        self._accounts = {account.address: account for account in accounts}
        sign_in = entra(settings.oauth, "transport.oauth", tell) if settings.oauth is not None else None
        self._authenticator = Authenticator(settings.password, sign_in, settings.resource)
        self._trust: ssl.SSLContext | None = None

    def connection(self, sender: str | None = None) -> SmtpConnection:
        """A connection, not yet open, that signs in as the sender's account."""
        return SmtpConnection(self, self._accounts.get(sender or "") or self._only(sender))

    def _only(self, sender: str | None = None) -> Account:
        """The account of a sender without one of its own."""
        return Account(sender or "", self.settings.username)

    def tracker(self) -> None:
        """None: a mail server cannot be asked afterwards."""

    async def finish(self, *, settled: bool = True) -> list[Diagnostic]:
        """Nothing to clean up: connections are closed already."""
        del settled
        return []

    # --- connections -----------------------------------------------------------------------------------------------

    async def connect(self, account: Account) -> Session | ConnectFailure:
        """One more connection, signed in."""
        return await self._authenticator.connect(account, self._connect)

    async def _connect(self, login: Login | None) -> Session | ConnectFailure:
        if self.server.tls != "none" and self._trust is None:
            self._trust = await asyncio.to_thread(ssl.create_default_context)  # the system's trust and SSL_CERT_FILE
        found = await connect(self.server, self._trust, login)
        if isinstance(found, Session) or not found.unreachable:
            self.reached = True
        return found

    def classify_reply(self, verb: Phase, response: Reply | Lost) -> Outcome | None:
        """What a reply means for a message; None: go on."""
        return classify_reply(verb, response, self.server.where, oauth=self._authenticator.by_token)

    def unconnected(self, failure: ConnectFailure) -> NotSent:
        """What a failed connection means for a message."""
        if failure.final:
            return NotSent(str(failure.error), fatal=failure.error)
        if failure.unreachable:  # the first connection of a run shows whether the server is there at all
            return NotSent(str(failure.error), fatal=None if self.reached else failure.error)
        outcome = self.classify_reply(failure.verb, failure.response)
        if not isinstance(outcome, NotSent):
            return NotSent(str(failure.error), fatal=failure.error)
        return replace(outcome, fatal=failure.error) if outcome.fatal and failure.error.hint else outcome

    # --- doctor ----------------------------------------------------------------------------------------------------

    async def check(self) -> list[Diagnostic]:
        """Check the server, each account's sign-in, and the app."""
        return await examine(self, list(self._accounts.values()) or [self._only()])

    async def token(self) -> AccessToken | None:
        """The token of all connections; None where passwords are used. Raises ServiceUnavailable."""
        return await self._authenticator.token()

    def signed_in(self, account: Account) -> str:
        """Text for `doctor`: as whom the account is signed in."""
        return self._authenticator.signed_in(account)


class SmtpConnection:
    """One kept connection, opened when needed and again when the server closed it between two messages."""

    def __init__(self, transport: SmtpTransport, account: Account) -> None:
        self._transport = transport
        self._account = account
        self._session: Session | None = None

    async def deliver(self, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        """Send one message: steps (3) to (6) of `workflows/sending`; see model.ports.Connection."""
        try:
            if fault := validate_message(message):
                return Rejected(fault, content=True)
            match await self._begin(message):  # (3) connect, MAIL, RCPT
                case Session() as session:
                    return await self._transmit(session, message, record_intent)  # DATA, and (4) to (6)
                case outcome:
                    return outcome
        except BaseException:  # cancelled, or the ledger failed: the server must not be left with half a message
            if self._session is not None:
                self._session.abort()
            raise

    async def close(self) -> None:
        """Send QUIT and close."""
        session, self._session = self._session, None
        if session is not None:
            await session.quit()

    async def _begin(self, message: OutboundMessage) -> Session | Outcome:
        """A connection on which MAIL and RCPT were accepted.

        A kept one may have timed out or carried as many messages as the server allows: then a new one is tried once, without a report.
        """
        kept = self._session
        if kept is not None and kept.open:
            outcome, stale = await self._envelope(kept, message)
            if outcome is None:
                return kept
            if not stale:
                return outcome
            await self.close()
        match await self._transport.connect(self._account):
            case ConnectFailure() as failure:
                return self._transport.unconnected(failure)
            case session:
                self._session = session
        outcome, _ = await self._envelope(session, message)
        return session if outcome is None else outcome

    async def _envelope(self, session: Session, message: OutboundMessage) -> tuple[Outcome | None, bool]:
        """The outcome of MAIL and RCPT (None: accepted), and whether only a kept connection was at fault."""
        timeout, transport = self._transport.settings.reply_timeout, self._transport
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
        if outcome := transport.classify_reply(Phase.MAIL, await session.say(*words, timeout=timeout)):
            if isinstance(outcome, NotSent):
                session.abort()
            return outcome, used and (not session.open or isinstance(outcome, Deferred))
        session.dirty = True
        response = await session.say(*rcpt(message, session.offers), timeout=timeout)
        outcome = transport.classify_reply(Phase.RCPT, response)
        if isinstance(outcome, NotSent):
            session.abort()
        return outcome, used and is_session_limit(outcome)

    async def _transmit(self, session: Session, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        """DATA and the message, once MAIL and RCPT were accepted."""
        settings, transport = self._transport.settings, self._transport
        intent = asyncio.ensure_future(record_intent())  # (4) record intent, during the round trip of DATA
        response = await session.say(b"DATA", timeout=settings.data_timeout)
        if not await intent:
            outcome: Outcome = NotSent("another process has claimed this message")
        else:
            outcome = transport.classify_reply(Phase.DATA, response) or await self._end_data(session, message)
        if isinstance(outcome, Ambiguous | NotSent):
            session.abort()  # replies to further commands could not be trusted
        return outcome

    async def _end_data(self, session: Session, message: OutboundMessage) -> Outcome:
        """(5) transmit the message with the end of data, (6) classify the reply."""
        response = await session.finish(dot_stuff(message.message), timeout=self._transport.settings.dot_timeout)
        if response is None:
            return NotSent("the connection was cut before the message was sent")
        session.dirty = False
        session.messages += 1
        return self._transport.classify_reply(Phase.END_OF_DATA, response) or Ambiguous("no answer")
