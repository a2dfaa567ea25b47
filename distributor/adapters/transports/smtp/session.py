"""One kept SMTP connection: one command and one answer at a time.

Time-outs are kept by one timer a connection, not by a task a reply, and end in `abort`: nothing that is still buffered goes out
after we stopped listening. aiosmtplib does the protocol; what it raises stops here and becomes a `Lost`.
"""

from __future__ import annotations

import asyncio
import base64
import re
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, cast

import aiosmtplib

from distributor.adapters.transports.smtp.replies import Lost, Reply
from distributor.model.people import bounded
from distributor.model.redaction import Redactor
from distributor.model.secret import Secret

ENDLESS = "the answer has no end"
LONGEST_HEARD = 16 * 2**10  # characters of an answer that are looked at
_DIGEST = re.compile(rb" ([0-9a-f]{32})$")  # of CRAM-MD5 (RFC 2195): it lets the password be guessed


class Client(aiosmtplib.SMTP):
    """aiosmtplib's client, which notes what proves who we are, so that it is not kept where a server repeats it."""

    def __init__(self, **settings: Any) -> None:  # noqa: ANN401  as the library has them
        super().__init__(**settings)
        self._proofs: dict[Secret | str, None] | None = None
        self.redact = Redactor()

    @contextmanager
    def signing_in(self, secret: Secret) -> Iterator[None]:
        """While a secret, and what is made of it, is sent; from then on `redact` knows all of it."""
        self._proofs = {secret: None}
        try:
            yield
        finally:
            self._proofs = None

    async def execute_command(self, *args: bytes, **more: Any) -> aiosmtplib.SMTPResponse:  # noqa: ANN401
        """A command and its answer."""
        if self._proofs is not None:
            self._proofs |= dict.fromkeys(_proofs(args))
            self.redact = Redactor(self._proofs)
        return await super().execute_command(*args, **more)


def _proofs(words: Sequence[bytes]) -> Iterator[str]:
    """What one line of a sign-in proves it with; the names of verb and mechanism are no secrets."""
    for word in words[2:] if words[0].upper() == b"AUTH" else words:
        yield word.decode("ascii", "replace")
        with suppress(ValueError):
            if digest := _DIGEST.search(base64.b64decode(word, validate=True)):
                yield digest[1].decode()


class Session:
    """A connection that is open. After `Lost`, 421, or `abort` it is no longer `open`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._loop = asyncio.get_running_loop()
        self._deadline = 0.0
        self._seconds = 0.0  # the time-out that is running; 0: none
        self._overdue = False
        self._timer: asyncio.TimerHandle | None = None
        self._rings = 0.0  # when; a timer of uvloop that has rung no longer knows
        self.messages = 0
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
        """The dot-stuffed message with its final dot, and the answer; None when the line was cut before anything was written."""
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
            return Lost(bounded(self._redacted(str(error))))
        finally:
            self._seconds = 0.0
        if response.code == 421 or self._unasked():  # noqa: PLR2004  the server hangs up (RFC 5321 3.8), or is out of step
            self.abort()
        return Reply(response.code, self._redacted(response.message))

    def _redacted(self, text: str) -> str:
        return self._client.redact(text[:LONGEST_HEARD])

    def _unasked(self) -> bool:
        """Whether bytes are left after the answer: they would be taken for the answer to the next command."""
        protocol = self._client.protocol
        return protocol is not None and bool(protocol._buffer)  # noqa: SLF001  no public way to see it

    def _reason(self, error: aiosmtplib.SMTPException, seconds: float) -> str:
        if self._overdue:
            return f"no answer in {seconds:g} s"
        if isinstance(error, aiosmtplib.SMTPResponseException):
            text = str(error.message)
            return ENDLESS if "too long" in text else bounded(f"an answer that makes no sense: {self._redacted(text)}")
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
        if transport is not None:
            cast("asyncio.WriteTransport", transport).abort()  # uvloop's are, without being subclasses
        self._client.close()

    async def quit(self) -> None:
        """Say goodbye, without waiting long for the answer."""
        if self.open:
            await self.say(b"QUIT", timeout=2.0)
        self.abort()
