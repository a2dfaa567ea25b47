"""A URL of the open web -> its bytes, or why not: size, time, redirects and addresses are bounded. One event loop; heavy to load.

Each redirect is checked again. A host's addresses are looked up once and the connection goes to one that is allowed, which prevents DNS
rebinding; TLS is checked against the name. No proxy, no cookie, no password, no kept connection.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from dataclasses import dataclass

import httpx2

from distributor import __version__
from distributor.clients import ip_addresses
from distributor.clients.http import describe_error
from distributor.model.people import bounded
from distributor.pki.validation.revocation import DownloadFailed, Fetched

MOST_REDIRECTS = 5
LONGEST_URL = 2000  # characters
_MOVED = frozenset({301, 302, 303, 307, 308})
_FINE = 200
_HEADERS = {"accept": "*/*", "accept-encoding": "identity", "user-agent": f"distributor/{__version__}"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """The time-out, and whether private addresses are allowed."""

    seconds: float
    private: bool = False
    resolver: ip_addresses.Resolve = ip_addresses.resolve


class _Stop(Exception):
    """Why a download stops."""

    def __init__(self, reason: str, *, private: bool = False) -> None:
        self.failure = DownloadFailed(reason, private)
        super().__init__(reason)


class Downloader:
    """Downloads in one event loop."""

    def __init__(self, bounds: Bounds, trust: ssl.SSLContext) -> None:
        self._bounds = bounds
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=0)  # so that TLS verifies each host name at an address
        self._http = httpx2.AsyncClient(verify=trust, trust_env=False, limits=limits, follow_redirects=False, timeout=bounds.seconds)

    async def fetch(self, url: str, largest: int) -> Fetched | DownloadFailed:
        """Download at most `largest` bytes."""
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._bounds.seconds):
                data = await self._follow(url, largest)
        except _Stop as stop:
            return stop.failure
        except Exception as error:  # noqa: BLE001  whatever a hostile response or URL causes, only this one download fails
            silent = isinstance(error, TimeoutError | httpx2.TimeoutException)
            return DownloadFailed(describe_error(error, self._bounds.seconds), silent=silent)
        return Fetched(data, time.monotonic() - began)

    async def _follow(self, text: str, largest: int) -> bytes:
        url = _parsed(text)
        seen = {str(url)}
        for _ in range(MOST_REDIRECTS + 1):
            found = await self._get(url, largest)
            if isinstance(found, bytes):
                return found
            url = _parsed(str(url.join(found)))
            if str(url) in seen:
                raise _Stop("redirect loop")
            seen.add(str(url))
        raise _Stop(f"more than {MOST_REDIRECTS} redirects")

    async def _get(self, url: httpx2.URL, largest: int) -> bytes | str:
        """The bytes, or the location of a redirect."""
        error: httpx2.TransportError | None = None
        for address in await self._addresses(url):
            try:
                return await self._at(url, address, largest)
            except httpx2.ConnectError as failed:
                error = failed
        raise error or _Stop("no such host")

    async def _addresses(self, url: httpx2.URL) -> list[str]:
        port = url.port or (443 if url.scheme == "https" else 80)
        found = await ip_addresses.ask(self._bounds.resolver, url.raw_host.decode("ascii"), port)
        good = [address for address in found if ip_addresses.allowed(address, private=self._bounds.private)]
        if found and not good:
            raise _Stop(f'"{bounded(url.host)}" is at {found[0]}, which is not a public address', private=not self._bounds.private)
        return good

    async def _at(self, url: httpx2.URL, address: str, largest: int) -> bytes | str:
        headers = {**_HEADERS, "host": url.netloc.decode("ascii")}
        there = url.copy_with(host=address)
        request = self._http.build_request("GET", there, headers=headers, extensions={"sni_hostname": url.raw_host.decode("ascii")})
        response = await self._http.send(request, stream=True)
        try:
            if response.status_code in _MOVED and "location" in response.headers:
                return str(response.headers["location"])
            if response.status_code != _FINE:
                raise _Stop(f"the server responded with {response.status_code}")
            return await _body(response, largest)
        finally:
            await response.aclose()
            self._http.cookies.clear()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _parsed(text: str) -> httpx2.URL:
    """Parse a URL that may be downloaded."""
    if len(text) > LONGEST_URL:
        raise _Stop("the URL is too long")
    url = httpx2.URL(text)
    if url.scheme not in {"http", "https"} or not url.host:
        raise _Stop(f'"{bounded(text)[:100]}" is not supported; only http and https are')
    if url.userinfo:
        raise _Stop("the URL contains a user name or password")
    return url.copy_with(fragment=None)


async def _body(response: httpx2.Response, largest: int) -> bytes:
    """The body as sent; a compressed one is not decompressed, and so is unusable."""
    taken = bytearray()
    async for part in response.aiter_raw():
        taken += part
        if len(taken) > largest:
            raise _Stop(f"larger than {_size(largest)}")
    return bytes(taken)


def _size(count: int) -> str:
    return f"{count // 2**20} MiB" if count >= 2**20 else f"{count // 2**10} KiB"
