"""The SMTP transport and its kept connections: each message command by command, steps (3) to (6) of `workflows/sending`."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from distributor.adapters.transports.smtp.check import examine
from distributor.adapters.transports.smtp.connect import Authenticator, ConnectFailure, Login, Server, connect
from distributor.adapters.transports.smtp.replies import Lost, Phase, Reply, classify_reply, is_session_limit
from distributor.adapters.transports.smtp.session import Session, dot_stuff, mail, rcpt, validate_message
from distributor.adapters.transports.smtp.settings import Settings
from distributor.clients.app_registration import AccessToken, Tell
from distributor.clients.entra import entra
from distributor.model.attempts import Ambiguous, Deferred, NotSent, OutboundMessage, Outcome, Rejected
from distributor.model.delivery import Account
from distributor.model.issues import Diagnostic
from distributor.model.ports import CommitIntent


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
