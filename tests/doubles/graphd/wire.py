"""HTTP/1.1 on asyncio streams and h11: requests in, answers out, and every way in which a line can go wrong, on demand."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from urllib.parse import parse_qsl, unquote

import h11

LARGEST_BODY = 64 * 2**20  # bytes; beyond it the double refuses to read, whatever the service would do
READ = 2**16
RESET = struct.pack("ii", 1, 0)  # SO_LINGER of 0 s: closing sends RST


@dataclass(frozen=True)
class Request:
    method: str
    target: str
    headers: Mapping[str, str]  # names in lower case
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @cached_property
    def segments(self) -> tuple[str, ...]:
        return tuple(unquote(part) for part in self.path.strip("/").split("/"))

    @cached_property
    def query(self) -> list[tuple[str, str]]:
        """A plus is a space here, as the service has it."""
        return parse_qsl(self.target.partition("?")[2], keep_blank_values=True)

    def media_type(self) -> str:
        return self.headers.get("content-type", "").partition(";")[0].strip().lower()


@dataclass(frozen=True)
class Answer:
    """`how` it goes out: whole, reset, silence, garbage or truncated."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    how: str = "whole"

    def with_headers(self, more: Mapping[str, str]) -> Answer:
        return replace(self, headers={**self.headers, **more})


Send = Callable[[Answer], Awaitable[None]]
Serve = Callable[[Request, Send], Awaitable[None]]


class Connection:
    """One client's line, used for as many requests as it likes, one after the other."""

    def __init__(self, serve: Serve, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.serve, self.reader, self.writer = serve, reader, writer
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=2**18)
        self.busy, self.method = False, ""

    async def run(self) -> None:
        try:
            while (request := await self.receive()) is not None:
                self.busy, self.method = True, request.method
                await self.serve(request, self.send)
                self.busy = False
                if self.http.our_state is not h11.DONE:
                    break
                self.http.start_next_cycle()
        except h11.RemoteProtocolError as wrong:
            await self._refuse(wrong.error_status_hint)
        except (ConnectionError, ssl.SSLError, TimeoutError):
            pass
        finally:
            self.writer.close()

    async def receive(self) -> Request | None:
        head, body = None, bytearray()
        while True:
            event = await self._event()
            match event:
                case h11.Request():
                    head = event
                case h11.Data():
                    body += event.data
                    if len(body) > LARGEST_BODY:
                        raise h11.RemoteProtocolError("too large", error_status_hint=413)
                case h11.EndOfMessage():
                    return _request(head, bytes(body))
                case _:
                    return None

    async def _event(self) -> h11.Event | type[h11.PAUSED]:
        while (event := self.http.next_event()) is h11.NEED_DATA:
            if self.http.they_are_waiting_for_100_continue:
                self.writer.write(self.http.send(h11.InformationalResponse(status_code=100, headers=[])))
            self.http.receive_data(await self.reader.read(READ))
        return event

    async def send(self, answer: Answer) -> None:
        match answer.how:
            case "reset":
                self._reset()
            case "silence":
                await self._stay_silent()
            case "garbage":
                await self._write(b"\x16\x03\x01 this is no HTTP \xff\xfe\r\n\r\n" + bytes(range(256)), last=True)
            case "truncated":
                if not answer.body:
                    answer = replace(answer, body=b" " * 64)
                await self._write(self._bytes(answer)[: -max(1, len(answer.body) // 2)], last=True)
            case _:
                await self._write(self._bytes(answer))

    def _bytes(self, answer: Answer) -> bytes:
        headers = [(name, str(value)) for name, value in answer.headers.items()]
        if answer.status >= 200 and answer.status != 204:
            headers.append(("Content-Length", str(len(answer.body))))
        reason = {202: "Accepted", 429: "Too Many Requests"}.get(answer.status, "")
        head = self.http.send(h11.Response(status_code=answer.status, headers=headers, reason=reason))
        body = b"" if self.method == "HEAD" else answer.body
        return (head or b"") + (self.http.send(h11.Data(body)) or b"") + (self.http.send(h11.EndOfMessage()) or b"")

    async def _write(self, data: bytes, *, last: bool = False) -> None:
        self.writer.write(data)
        await self.writer.drain()
        if last:
            self.http.send_failed()

    def _reset(self) -> None:
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.writer.transport.abort()
        self.http.send_failed()

    async def _stay_silent(self) -> None:
        while await self.reader.read(READ):
            pass
        self.http.send_failed()

    async def _refuse(self, status: int) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError, h11.LocalProtocolError):
            await self._write(self._bytes(Answer(status, b"", {"Connection": "close"})))


def _request(head: h11.Request, body: bytes) -> Request:
    headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
    return Request(head.method.decode("ascii"), head.target.decode("ascii"), headers, body)


class Port:
    """A listening port on loopback, and who is connected to it."""

    def __init__(self, serve: Serve, tls: ssl.SSLContext | None = None) -> None:
        self.serve, self.tls = serve, tls
        self.connections: set[Connection] = set()

    async def open(self, port: int = 0) -> int:
        more = {"ssl": self.tls, "ssl_shutdown_timeout": 1.0} if self.tls else {}
        self.server = await asyncio.start_server(self._meet, "127.0.0.1", port, **more)
        return int(self.server.sockets[0].getsockname()[1])

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self.serve, reader, writer)
        self.connections.add(connection)
        try:
            await connection.run()
        finally:
            self.connections.discard(connection)

    def close_idle(self) -> int:
        """Hang up on every kept connection that waits; how many there were."""
        idle = [connection for connection in self.connections if not connection.busy]
        for connection in idle:
            connection.writer.close()
        return len(idle)
