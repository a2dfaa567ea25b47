"""Requests over kept HTTP/1.1 connections (httpx2) of one event loop -> RawResponse or NoResponse. Heavy to load.

httpx2's trace shows whether anything of a request was written: before the first byte of its head it certainly was not sent. A time-out
covers the whole exchange, so that a service that trickles cannot block a message for ever.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx2

from distributor.clients.http import NoResponse, describe_error

CONNECT = 30.0  # seconds
IDLE = 15.0  # seconds a connection is kept without use; the service keeps its end longer, so that it is not the one to close first
LARGEST = 160 * 2**20  # bytes of an answer; a message of Exchange Online has at most 150 MB
_OPENED = "connection.connect_tcp.complete"
_BEGUN = "http11.send_request_headers.started"

logging.getLogger("httpx2").addFilter(lambda _: False)  # it would log addresses


@dataclass(frozen=True, slots=True)
class RawResponse:
    """A response before it is parsed; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    content: bytes


class RequestTrace:
    """Records whether writing a request's head to the service began; a proxy's CONNECT does not count."""

    def __init__(self) -> None:
        self.begun = False
        self._fresh: Any = None  # a stream that was opened for this request

    async def __call__(self, event: str, info: Mapping[str, Any]) -> None:
        """Called by httpx2 at each event of the connection."""
        if event == _OPENED:
            self._fresh = info["return_value"]
        elif event == _BEGUN and info["request"].method != b"CONNECT":
            self.begun = True

    async def close(self) -> None:
        """httpcore2 leaves a stream open that is cancelled between its opening and the request, in the midst of TLS."""
        if self._fresh is not None and not self.begun:
            await self._fresh.aclose()


class HttpConnections:
    """Kept connections of one event loop."""

    def __init__(self, trust: ssl.SSLContext) -> None:
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=IDLE)
        self._http = httpx2.AsyncClient(verify=trust, limits=limits, follow_redirects=False, timeout=CONNECT)

    async def exchange(  # noqa: PLR0913, PLR0917
        self,
        method: str,
        url: str,
        content: bytes | None,
        headers: Mapping[str, str],
        seconds: float,
        largest: int | None = None,
    ) -> RawResponse | NoResponse:
        """Send a request and read the response; of a content above `largest` bytes, only those."""
        trace = RequestTrace()
        try:
            async with asyncio.timeout(seconds):
                return await self._exchange(method, url, content, headers, seconds, trace, largest)
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:  # a time-out is an OSError too
            limit = CONNECT if isinstance(error, httpx2.ConnectTimeout) else seconds
            return NoResponse(describe_error(error, min(limit, seconds)), request_sent=trace.begun)
        finally:
            await trace.close()

    async def _exchange(  # noqa: PLR0913, PLR0917
        self,
        method: str,
        url: str,
        content: bytes | None,
        headers: Mapping[str, str],
        seconds: float,
        trace: RequestTrace,
        largest: int | None,
    ) -> RawResponse | NoResponse:
        timeout = httpx2.Timeout(seconds, connect=min(CONNECT, seconds))
        request = self._http.build_request(
            method, url, content=content, headers=dict(headers), timeout=timeout, extensions={"trace": trace}
        )
        response = await self._http.send(request, stream=True)
        try:
            taken = bytearray()
            async for part in response.aiter_bytes():
                taken += part
                if largest is not None and len(taken) >= largest:
                    del taken[largest:]
                    break
                if len(taken) > LARGEST:
                    return NoResponse(f"the response is larger than {LARGEST // 2**20} MiB", request_sent=True)
        finally:
            await response.aclose()
        return RawResponse(response.status_code, {name.lower(): value for name, value in response.headers.items()}, bytes(taken))

    async def close(self) -> None:
        """Close them all."""
        await self._http.aclose()
