"""CRLs and authorities' certificates from the web: each URL once a run, failures too, several side by side, in a thread of its own."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from distributor.clients import ip_addresses
from distributor.pki.validation.revocation import EXCHANGE_SECONDS, DownloadFailed, Fetched

if TYPE_CHECKING:
    from distributor.clients.downloader import Downloader

LARGEST_CRL = 32 * 2**20  # bytes; 800 000 revoked certificates
LARGEST_CERTIFICATE = 256 * 2**10  # bytes; a PKCS#7 of some dozens
SIDE_BY_SIDE = 8  # fetches
MOST_SILENT = 3  # times a host may not answer; after that it is asked no more in this run


class DownloadCache:
    """The library of one run."""

    def __init__(
        self,
        *,
        private: bool = False,
        seconds: float = EXCHANGE_SECONDS,
        largest_crl: int = LARGEST_CRL,
        resolver: ip_addresses.Resolve = ip_addresses.resolve,
        trust: Callable[[], ssl.SSLContext] = ssl.create_default_context,  # the system's, and SSL_CERT_FILE
    ) -> None:
        self._private, self._seconds, self._resolver, self._trust = private, seconds, resolver, trust
        self._largest = {True: largest_crl, False: LARGEST_CERTIFICATE}
        self._lock = threading.Lock()
        self._asked: dict[tuple[str, bool], Future[Fetched | DownloadFailed]] = {}
        self._silent: dict[str, int] = {}  # by host: how often it did not answer
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread
        self._turn: asyncio.Semaphore | None = None
        self._fetching: Downloader | None = None
        self.downloads = 0

    def start(self, url: str, *, crl: bool) -> None:
        """Begin, if nobody has yet."""
        with self._lock:
            if (url, crl) not in self._asked:
                self.downloads += 1
                self._asked[url, crl] = asyncio.run_coroutine_threadsafe(self._fetch(url, self._largest[crl]), self._running())

    def get(self, url: str, *, crl: bool) -> Fetched | DownloadFailed:
        """What came; waits for it."""
        self.start(url, crl=crl)
        return self._asked[url, crl].result()

    def _running(self) -> asyncio.AbstractEventLoop:
        """The loop, in its thread."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_run, args=(self._loop,), daemon=True, name="fetching")
            self._thread.start()
        return self._loop

    async def _fetch(self, url: str, largest: int) -> Fetched | DownloadFailed:
        self._turn = self._turn or asyncio.Semaphore(SIDE_BY_SIDE)
        async with self._turn:
            host = urlsplit(url).netloc
            if self._silent.get(host, 0) >= MOST_SILENT:
                return DownloadFailed("its host did not answer before", silent=True)
            came = await self._opened().fetch(url, largest)
            if isinstance(came, DownloadFailed) and came.silent:
                self._silent[host] = self._silent.get(host, 0) + 1
            return came

    def _opened(self) -> Downloader:
        if self._fetching is None:
            from distributor.clients.downloader import Bounds, Downloader  # noqa: PLC0415  heavy, and not every run fetches

            self._fetching = Downloader(Bounds(self._seconds, self._private, self._resolver), self._trusted())
        return self._fetching

    def _trusted(self) -> ssl.SSLContext:
        """What https trusts: nothing where that cannot be read; lists by http do not suffer from it."""
        try:
            return self._trust()
        except OSError:
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stop what still runs."""
        loop, self._loop = self._loop, None
        if loop is not None:
            asyncio.run_coroutine_threadsafe(self._end(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        if self._fetching is not None:
            await self._fetching.close()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """A loop's whole life."""
    try:
        loop.run_forever()
    finally:
        loop.close()
