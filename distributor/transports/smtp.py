"""SMTP submission (RFC 5321, 6409): a pool of kept connections, each letter driven verb by verb so that its phase is always known.

The ledger's ARM runs beside the DATA command and is awaited before the first byte of the letter: until then everything is
proved unsent; after it only a reply tells, and without one the letter is ambiguous.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta

from distributor.core.findings import Remark
from distributor.core.outcomes import Ambiguous, Outcome, Parcel, Rejected, Unsent
from distributor.core.secret import Secret
from distributor.errors import Unusable
from distributor.transports._envelope import mail, rcpt, stuffed, unsendable
from distributor.transports._replies import Verb, judge
from distributor.transports._session import Down, Server, Session, dial, is_loopback

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
    per_minute: float | None = None
    hostname: str | None = None  # our name in EHLO
    connect_timeout: float = 60.0
    reply_timeout: float = 300.0
    data_timeout: float = 120.0
    dot_timeout: float = 600.0  # a server may take ten minutes; giving up sooner makes doubled letters


def open(settings: Settings) -> Smtp:  # noqa: A001  every adapter is opened by this name
    """The transport; connects when its first letter goes. Raises Unusable for a configuration that would send in clear."""
    server = Server(
        settings.host,
        settings.port,
        settings.tls,
        settings.username,
        settings.password,
        settings.hostname,
        settings.connect_timeout,
    )
    _check(settings)
    return Smtp(settings, server)


def _check(settings: Settings) -> None:
    if not 1 <= settings.port <= LAST_PORT:
        raise Unusable(f"{settings.port} is no port", where="transport.port", hint="submission is 587, with implicit encryption 465")
    if settings.connections < 1:
        raise Unusable(f"{settings.connections} connections carry nothing", where="transport.connections", hint="write at least 1")
    if settings.per_minute is not None and settings.per_minute <= 0:
        raise Unusable(f"{settings.per_minute:g} letters a minute are none", where="transport.rate", hint='write a rate such as "30/min"')
    if settings.tls not in {"starttls", "implicit", "none"}:
        raise Unusable(f'"{settings.tls}" is not a kind of encryption', where="transport.tls", hint="write starttls, implicit or none")
    if settings.tls == "none" and not is_loopback(settings.host):
        hint = 'write `tls = "starttls"`; only a server on this very machine may be used without'
        raise Unusable(f'letters to "{settings.host}" would travel in clear', where="transport.tls", hint=hint)
    if settings.tls == "none" and settings.password is not None:
        hint = 'write `tls = "starttls"`, or remove `transport.password`'
        raise Unusable("the password would travel in clear", where="transport.tls", hint=hint)


class Smtp:
    """The road over one server."""

    def __init__(self, settings: Settings, server: Server) -> None:
        self.lanes = settings.connections
        self.per_minute = settings.per_minute
        # the ARM is durable before DATA's answer came, so both time-outs count, and a margin
        self.longest_wait = timedelta(seconds=settings.data_timeout + settings.dot_timeout + 30)
        self.settings = settings
        self.server = server
        self.reached = False  # whether any connection of this run was answered
        self._trust: ssl.SSLContext | None = None

    def lane(self) -> SmtpLane:
        """A lane, not yet connected."""
        return SmtpLane(self)

    async def dial(self) -> Session | Down:
        """One more connection."""
        if self.server.tls != "none" and self._trust is None:
            self._trust = await asyncio.to_thread(ssl.create_default_context)  # the system's trust and SSL_CERT_FILE
        found = await dial(self.server, self._trust)
        if isinstance(found, Session) or not found.unreachable:
            self.reached = True
        return found

    def unconnected(self, down: Down) -> Unsent:
        """What it means for a letter that there is no connection."""
        outcome = judge(down.verb, down.heard, self.server.where)
        if down.unreachable:
            never = None if self.reached else down.error
            return Unsent(str(down.error), stop=never)
        if not isinstance(outcome, Unsent):
            return Unsent(str(down.error), stop=down.error)
        return replace(outcome, stop=down.error) if outcome.stop and down.error.hint else outcome

    async def check(self) -> list[Remark]:
        """What `doctor` says of the server."""
        match await self.dial():
            case Down(error=error) as down:
                refused = self.unconnected(down).stop or error
                return [Remark("transport", "error", str(refused), refused.hint)]
            case session:
                offers = [name for name in ("dsn", "smtputf8", "8bitmime", "size") if session.offers(name)]
                await session.quit()
                signed_in = ", signed in" if self.server.password is not None else ""
                return [
                    Remark("transport", "ok", f"{self.server.where} answers{signed_in}; offers {', '.join(offers) or 'nothing special'}")
                ]


class SmtpLane:
    """One kept connection, made when needed and again when the server hung up between two letters."""

    def __init__(self, road: Smtp) -> None:
        self._road = road
        self._session: Session | None = None

    async def deliver(self, parcel: Parcel, arm: Callable[[], Awaitable[bool]]) -> Outcome:
        """Carry one letter; see core.ports.Lane."""
        try:
            if fault := unsendable(parcel):
                return Rejected(fault, content=True)
            return await self._carry(parcel, arm)
        except BaseException:  # cancelled, or the ledger failed: the server must not be left with half a letter
            if self._session is not None:
                self._session.abort()
            raise

    async def close(self) -> None:
        """Say goodbye."""
        session, self._session = self._session, None
        if session is not None:
            await session.quit()

    async def _carry(self, parcel: Parcel, arm: Callable[[], Awaitable[bool]]) -> Outcome:
        match await self._begun(parcel):
            case Session() as session:
                outcome = await self._rest(session, parcel, arm)
                if isinstance(outcome, Ambiguous | Unsent):
                    session.abort()  # what comes next on it could not be trusted
                return outcome
            case outcome:
                return outcome

    async def _begun(self, parcel: Parcel) -> Session | Outcome:
        """A connection on which MAIL was accepted. A kept one may have died of idleness: then one new one is tried, silently."""
        kept = self._session
        if kept is not None and kept.open:
            outcome, stale = await self._mail(kept, parcel)
            if outcome is None:
                return kept
            if not stale:
                return outcome
        match await self._road.dial():
            case Down() as down:
                return self._road.unconnected(down)
            case session:
                self._session = session
        outcome, _ = await self._mail(session, parcel)
        return session if outcome is None else outcome

    async def _mail(self, session: Session, parcel: Parcel) -> tuple[Outcome | None, bool]:
        """What MAIL came to (None: accepted), and whether only the connection was at fault."""
        timeout, where = self._road.settings.reply_timeout, self._road.server.where
        used = session.letters > 0 or session.dirty
        if session.dirty:
            heard = await session.say(b"RSET", timeout=timeout)
            if outcome := judge(Verb.RSET, heard, where):
                session.abort()
                return outcome, True
            session.dirty = False
        words = mail(parcel, session.offers)
        if isinstance(words, Rejected):
            return words, False
        heard = await session.say(*words, timeout=timeout)
        outcome = judge(Verb.MAIL, heard, where)
        session.dirty = outcome is None
        if isinstance(outcome, Unsent):
            session.abort()
        return outcome, used and not session.open

    async def _rest(self, session: Session, parcel: Parcel, arm: Callable[[], Awaitable[bool]]) -> Outcome:
        settings, where = self._road.settings, self._road.server.where
        heard = await session.say(*rcpt(parcel, session.offers), timeout=settings.reply_timeout)
        if outcome := judge(Verb.RCPT, heard, where):
            return outcome
        arming = asyncio.ensure_future(arm())  # beside the round trip of DATA
        heard = await session.say(b"DATA", timeout=settings.data_timeout)
        if not await arming:
            return Unsent("another sender holds this letter")
        if outcome := judge(Verb.DATA, heard, where):
            return outcome
        return await self._dot(session, parcel)

    async def _dot(self, session: Session, parcel: Parcel) -> Outcome:
        heard = await session.finish(stuffed(parcel.message), timeout=self._road.settings.dot_timeout)
        if heard is None:
            return Unsent("the connection was cut before the letter went")
        session.dirty = False
        session.letters += 1
        return judge(Verb.DOT, heard, self._road.server.where) or Ambiguous("no answer")
