"""One kept SMTP connection: one command and one reply at a time.

A time-out is kept by one timer for the connection, not by a task for each reply, and ends in `abort`: nothing that is still buffered goes
out after we stopped waiting. aiosmtplib speaks the protocol; its exceptions stop here and become a `Lost`.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

import aiosmtplib

from distributor.adapters.transports.smtp.replies import Lost, Reply
from distributor.model.attempts import OutboundMessage, Rejected
from distributor.model.people import bounded, is_unsafe
from distributor.model.redaction import Redactor
from distributor.model.secret import Secret

ENDLESS = "the response never ends"
_CONTINUE, _AUTHENTICATED = 334, 235
LONGEST_REPLY = 16 * 2**10  # characters; the rest is ignored
_DIGEST = re.compile(rb" ([0-9a-f]{32})$")  # of CRAM-MD5 (RFC 2195), from which the password could be guessed


class Client(aiosmtplib.SMTP):
    """aiosmtplib's client, which remembers the secrets of a sign-in and redacts them in replies that repeat them."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401  those of the library
        super().__init__(**settings)
        self._proofs: dict[Secret | str, None] | None = None
        self.redact = Redactor()

    @contextmanager
    def signing_in(self, secret: Secret) -> Iterator[None]:
        """Remember this secret, and what is derived from it and sent meanwhile, for `redact`."""
        self._proofs = {secret: None}
        try:
            yield
        finally:
            self._proofs = None

    async def execute_command(self, *args: bytes, **more: Any) -> aiosmtplib.SMTPResponse:  # noqa: ANN401
        """Send a command; its reply."""
        if self._proofs is not None:
            self._proofs |= dict.fromkeys(_proofs(args))
            self.redact = Redactor(self._proofs)
        return await super().execute_command(*args, **more)

    async def auth_login(self, username: str | bytes, password: str | bytes, /, **more: Any) -> aiosmtplib.SMTPResponse:  # noqa: ANN401
        """LOGIN with the name in a line of its own, which every server understands; the library's puts it into the first."""
        response = await self.execute_command(b"AUTH", b"LOGIN", **more)
        for word in (username, password):
            if response.code != _CONTINUE:
                break
            response = await self.execute_command(base64.b64encode(word.encode() if isinstance(word, str) else word), **more)
        if response.code != _AUTHENTICATED:
            raise aiosmtplib.SMTPAuthenticationError(response.code, response.message)
        return response


def _proofs(words: Sequence[bytes]) -> Iterator[str]:
    """The secret parts of one line of a sign-in; the names of command and mechanism are none."""
    for word in words[2:] if words[0].upper() == b"AUTH" else words:
        yield word.decode("ascii", "replace")
        with suppress(ValueError):
            if digest := _DIGEST.search(base64.b64decode(word, validate=True)):
                yield digest[1].decode()


class Session:
    """An open connection. After `Lost`, 421, or `abort` it is no longer `open`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._deadline = 0.0
        self._seconds = 0.0  # the running time-out; 0: none
        self._overdue = False
        self._timer: asyncio.TimerHandle | None = None
        self._fires_at = 0.0  # uvloop's timers forget it once they fired
        self.messages = 0
        self.dirty = False  # a mail transaction was begun and not ended

    @property
    def open(self) -> bool:
        """Whether commands can be sent."""
        return self._client.is_connected

    def offers(self, extension: str) -> bool:
        """Whether the server offers this extension."""
        return self._client.supports_extension(extension)

    async def say(self, *words: bytes, timeout: float) -> Reply | Lost:  # noqa: ASYNC109  one timer a connection keeps it
        """Send a command; its reply."""
        return await self._receive(self._client.execute_command(*words, timeout=None), timeout)

    async def finish(self, body: bytes, *, timeout: float) -> Reply | Lost | None:  # noqa: ASYNC109
        """Send the dot-stuffed message with the end of data; its reply, or None when the connection was lost before that."""
        protocol = self._client.protocol
        try:
            if protocol is None:
                return None
            protocol.write(body)
        except aiosmtplib.SMTPServerDisconnected:
            return None
        return await self._receive(protocol.read_response(timeout=None), timeout)

    async def _receive(self, answer: Awaitable[aiosmtplib.SMTPResponse], seconds: float) -> Reply | Lost:
        self._start_timeout(seconds)
        try:
            response = await answer
        except aiosmtplib.SMTPException as error:
            self.abort()
            return Lost(self._reason(error, seconds))
        except OSError as error:
            self.abort()
            return Lost(bounded(self._redacted(str(error))))
        finally:
            self._seconds = 0.0
        if response.code == 421 or self._has_extra():  # noqa: PLR2004  the server closes (RFC 5321 3.8), or is out of step
            self.abort()
        return Reply(response.code, self._redacted(response.message))

    def _redacted(self, text: str) -> str:
        return self._client.redact(text[:LONGEST_REPLY])

    def _has_extra(self) -> bool:
        """Whether bytes are left after the reply: they would be taken for the reply to the next command."""
        protocol = self._client.protocol
        return protocol is not None and bool(protocol._buffer)  # noqa: SLF001  no public way to see it

    def _reason(self, error: aiosmtplib.SMTPException, seconds: float) -> str:
        if self._overdue:
            return f"no answer in {seconds:g} s"
        if isinstance(error, aiosmtplib.SMTPResponseException):
            text = str(error.message)
            return ENDLESS if "too long" in text else bounded(f"unexpected response: {self._redacted(text)}")
        return "the connection was cut"

    def _start_timeout(self, seconds: float) -> None:
        self._seconds = seconds
        self._deadline = self._loop.time() + seconds
        if self._timer is None or self._fires_at > self._deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._start_timer()

    def _start_timer(self) -> None:
        self._fires_at = self._deadline
        self._timer = self._loop.call_at(self._deadline, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if not self._seconds:
            return
        if self._loop.time() >= self._deadline:
            self._overdue = True
            self.abort()
        else:
            self._start_timer()

    def abort(self) -> None:
        """Close at once; nothing that is still buffered goes out."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        transport = self._client.transport
        if transport is not None:
            cast("asyncio.WriteTransport", transport).abort()  # uvloop's are, without being subclasses
        self._client.close()

    async def quit(self) -> None:
        """Send QUIT, without waiting long for the reply."""
        if self.open:
            await self.say(b"QUIT", timeout=2.0)
        self.abort()


# --- envelope --------------------------------------------------------------------------------
# Builds the commands MAIL and RCPT and the bytes after DATA. Pure.
#
# The bytes after DATA are the frozen ones with dots doubled (RFC 5321 4.5.2) and nothing else.


Offers = Callable[[str], bool]
_NOT_XTEXT = re.compile(r"[^!-*,-<>-~]")


def validate_message(outbound: OutboundMessage) -> str | None:
    """Why a message must not be sent: with a bare CR or LF a server might see two messages in it (SMTP smuggling)."""
    message = outbound.message
    lines = message.count(b"\r\n")  # counting is a hundred times faster than one expression over the whole message
    if not message.endswith(b"\r\n") or message.count(b"\n") != lines or message.count(b"\r") != lines:
        return "the message has a line ending other than CRLF"
    if not (_harmless(outbound.sender) and _harmless(outbound.address)):
        return "an envelope address has an invalid character"
    return None


def _harmless(address: str) -> bool:
    plain = address.isascii() and address.isprintable()
    return (plain or not any(is_unsafe(c) for c in address)) and not any(c in address for c in "<> ")


def mail(message: OutboundMessage, offers: Offers) -> tuple[bytes, ...] | Rejected:
    """MAIL with what the server offers: SIZE, 8BITMIME, SMTPUTF8, and a request for notices (RFC 3461)."""
    words = [b"MAIL", b"FROM:<" + message.sender.encode() + b">"]
    if offers("size"):
        words.append(b"SIZE=%d" % len(message.message))
    if not (message.address.isascii() and message.sender.isascii()):
        if not offers("smtputf8"):
            return Rejected("the server does not offer SMTPUTF8, which this address needs")
        words.append(b"SMTPUTF8")
    if offers("8bitmime") and not message.message.isascii():
        words.append(b"BODY=8BITMIME")
    if offers("dsn"):
        words += [b"RET=HDRS", b"ENVID=" + xtext(f"{message.delivery}.{message.attempt}").encode()]
    return tuple(words)


def rcpt(message: OutboundMessage, offers: Offers) -> tuple[bytes, ...]:
    """RCPT, asking for every kind of notice where the server sends them."""
    words = [b"RCPT", b"TO:<" + message.address.encode() + b">"]
    if offers("dsn"):
        words.append(b"NOTIFY=SUCCESS,FAILURE,DELAY")
        if message.address.isascii():
            words.append(b"ORCPT=rfc822;" + xtext(message.address).encode())
    return tuple(words)


def dot_stuff(message: bytes) -> bytes:
    """The message as it is transmitted, end of data included."""
    doubled = message.replace(b"\r\n.", b"\r\n..")
    return (b"." if message.startswith(b".") else b"") + doubled + b".\r\n"


def xtext(text: str) -> str:
    """RFC 3461 4: everything but printable ASCII, and `+` and `=`, as a plus and two hexadecimal digits."""
    return _NOT_XTEXT.sub(lambda found: "".join(f"+{byte:02X}" for byte in found[0].encode()), text)
