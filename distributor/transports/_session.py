"""One kept SMTP connection: opened, greeted, encrypted, signed in, then one command and one answer at a time.

Time-outs are kept by one timer a connection, not by a task a reply, and end in `abort`: nothing that is still buffered goes out
after we stopped listening. aiosmtplib does the protocol; what it raises stops here and becomes a `Lost`.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import ssl
from collections.abc import Awaitable
from dataclasses import dataclass

import aiosmtplib

from distributor.core.secret import Secret
from distributor.errors import Error, Unavailable
from distributor.transports._replies import Lost, Reply, Verb, bounded

ENDLESS = "the answer has no end"
_UNKNOWN = {500, 502, 504}  # the command is not known, or not done


@dataclass(frozen=True, slots=True)
class Server:
    """Where to connect and how. `tls` is "starttls", "implicit" or "none"; time-outs in seconds."""

    host: str
    port: int
    tls: str
    username: str | None
    password: Secret | None
    hostname: str | None
    connect_timeout: float

    @property
    def where(self) -> str:
        """The server's name in messages."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Down:
    """No connection: `unreachable` when not even a greeting came; `error` says it to a person."""

    heard: Reply | Lost
    verb: Verb
    error: Error
    unreachable: bool = False


class Session:
    """A connection that is open. After `Lost`, 421, or `abort` it is no longer `open`."""

    def __init__(self, client: aiosmtplib.SMTP) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._deadline = 0.0
        self._seconds = 0.0  # the time-out that is running; 0: none
        self._overdue = False
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0.0  # when; a timer of uvloop that has rung no longer knows
        self.letters = 0
        self.dirty = False  # an envelope was begun and not ended

    @property
    def open(self) -> bool:
        """Whether a command may be tried."""
        return self._client.is_connected

    def offers(self, extension: str) -> bool:
        """Whether the server named this extension after the last EHLO."""
        return self._client.supports_extension(extension)

    async def say(self, *words: bytes, timeout: float) -> Reply | Lost:  # noqa: ASYNC109  one timer a connection keeps it
        """A command and its answer."""
        return await self._listen(self._client.execute_command(*words, timeout=None), timeout)

    async def finish(self, body: bytes, *, timeout: float) -> Reply | Lost | None:  # noqa: ASYNC109
        """The dot-stuffed letter with its final dot, and the answer; None when the line was cut before anything was written."""
        protocol = self._client.protocol
        try:
            if protocol is None:
                return None
            protocol.write(body)
        except aiosmtplib.SMTPServerDisconnected:
            return None
        return await self._listen(protocol.read_response(timeout=None), timeout)

    async def _listen(self, answer: Awaitable[aiosmtplib.SMTPResponse], seconds: float) -> Reply | Lost:
        self._watch(seconds)
        try:
            response = await answer
        except aiosmtplib.SMTPException as error:
            self.abort()
            return Lost(self._reason(error, seconds))
        except OSError as error:
            self.abort()
            return Lost(bounded(str(error)))
        finally:
            self._seconds = 0.0
        if response.code == 421 or self._unasked():  # noqa: PLR2004  the server hangs up (RFC 5321 3.8), or is out of step
            self.abort()
        return Reply(response.code, response.message)

    def _unasked(self) -> bool:
        """Whether bytes are left after the answer: they would be taken for the answer to the next command."""
        protocol = self._client.protocol
        return protocol is not None and bool(protocol._buffer)  # noqa: SLF001  no public way to see it

    def _reason(self, error: aiosmtplib.SMTPException, seconds: float) -> str:
        if self._overdue:
            return f"no answer in {seconds:g} s"
        if isinstance(error, aiosmtplib.SMTPResponseException):
            return bounded(ENDLESS if "too long" in str(error.message) else f"an answer that makes no sense: {error.message}")
        return "the connection was cut"

    def _watch(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline = self._loop.time() + seconds
        if self._timer is None or self._rings > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._ring()

    def _ring(self) -> None:
        self._rings = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if not self._seconds:
            return
        if self._loop.time() >= self._deadline:
            self._overdue = True
            self.abort()
        else:
            self._ring()

    def abort(self) -> None:
        """Close at once; nothing that is still buffered goes out."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        transport = self._client.transport
        if isinstance(transport, asyncio.WriteTransport):
            transport.abort()
        self._client.close()

    async def quit(self) -> None:
        """Say goodbye, without waiting long for the answer."""
        if self.open:
            await self.say(b"QUIT", timeout=2.0)
        self.abort()


# --- opening -------------------------------------------------------------------------------------------------------


async def dial(server: Server, trust: ssl.SSLContext | None) -> Session | Down:
    """Connect, greet, encrypt and sign in."""
    implicit = server.tls == "implicit"
    client = aiosmtplib.SMTP(
        hostname=server.host,
        port=server.port,
        local_hostname="localhost",  # EHLO is said by us, with a better name
        use_tls=implicit,
        start_tls=False,
        tls_context=trust,
        timeout=server.connect_timeout,
    )
    session = Session(client)
    try:
        down = await _open(client, session, server)
    except BaseException:
        session.abort()
        raise
    if down is None:
        return session
    session.abort()
    return down


async def _open(client: aiosmtplib.SMTP, session: Session, server: Server) -> Down | None:
    verb = Verb.CONNECT
    try:
        await client.connect()
        verb = Verb.EHLO
        name = server.hostname or _own_name(client)
        await _greet(client, name, server)
        if server.tls == "starttls":
            verb = Verb.STARTTLS
            if not session.offers("starttls"):
                return _no_tls(server)
            await client.starttls()
            await client.ehlo(hostname=name)
        if server.password is not None:
            verb = Verb.AUTH
            await client.login(server.username or "", server.password.reveal())
    except (aiosmtplib.SMTPException, OSError, ValueError) as error:
        return _down(verb, error, server)
    return None


async def _greet(client: aiosmtplib.SMTP, name: str, server: Server) -> None:
    """EHLO; and HELO to a server that knows nothing else, where nothing is asked of it that only EHLO offers."""
    try:
        await client.ehlo(hostname=name)
    except aiosmtplib.SMTPHeloError as error:
        if error.code not in _UNKNOWN or server.tls == "starttls" or server.password is not None or not client.is_connected:
            raise
        await client.helo(hostname=name)


def _own_name(client: aiosmtplib.SMTP) -> str:
    """Our name for EHLO: the host's if it is a full one, else the address literal, which is always true (RFC 5321 4.1.3)."""
    name = socket.gethostname()
    if "." in name and name.isascii():
        return name
    address = client.get_transport_info("sockname")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _no_tls(server: Server) -> Down:
    why = "the server does not offer STARTTLS, and nothing is sent in clear"
    hint = 'use the port for mail submission (587), or `transport.tls = "implicit"` on port 465'
    return Down(Reply(502, why), Verb.STARTTLS, Unavailable(why, where=server.where, hint=hint))


def _down(verb: Verb, error: Exception, server: Server) -> Down:
    cause = _root(error)
    match cause, error:
        case ssl.SSLCertVerificationError(verify_message=reason), _:
            text = f'the certificate is not trusted: "{reason}"'
            hint = "name the server as its certificate does, or trust its issuer: SSL_CERT_FILE=issuer.pem"
            return Down(Reply(554, text), Verb.STARTTLS, Unavailable(text, where=server.where, hint=hint), unreachable=True)
        case _, aiosmtplib.SMTPResponseException(code=int(code), message=str(text)) if code > 0:
            reply = Reply(code, text)
            return Down(reply, verb, Unavailable(f'{verb} is refused: "{reply.said}"', where=server.where))
        case _, aiosmtplib.SMTPTimeoutError():
            return _unreached(verb, f"no answer to {verb} in {server.connect_timeout:g} s", server)
        case _, aiosmtplib.SMTPServerDisconnected():
            return _unreached(verb, f"the connection was cut at {verb}", server)
        case _:
            return _unreached(verb, _plain(cause), server)


def _unreached(verb: Verb, why: str, server: Server) -> Down:
    hint = "check `transport.host`, `transport.port` and `transport.tls`, and that the server runs"
    return Down(Lost(why), verb, Unavailable(why, where=server.where, hint=hint), unreachable=True)


def _root(error: BaseException) -> BaseException:
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error


def _plain(error: BaseException) -> str:
    match error:
        case socket.gaierror():
            return "no such host"
        case ssl.SSLError(reason=str(reason)):
            return f"TLS failed: {bounded(reason.replace('_', ' ').lower())}"
        case OSError(errno=int(number)):
            return os.strerror(number).lower()
        case OSError() if "Errno 111" in str(error):  # several addresses, none of them open
            return "connection refused"
        case _:
            text = bounded(str(error)).rstrip(".") or type(error).__name__  # the library's own sentence
            return text[0].lower() + text[1:]


def is_loopback(host: str) -> bool:
    """Whether every address of this host is this machine's own."""
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found)
