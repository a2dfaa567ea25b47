"""Downloads of CRLs and CA certificates: each URL once a run, failures too, several at a time, in a thread with its own event loop."""

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
CONCURRENT = 8  # downloads
MOST_SILENT = 3  # time-outs of a host, after which it is skipped in this run


class DownloadCache:
    """The downloads of one run (a CrlDownloader)."""

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
        self._started: dict[tuple[str, bool], Future[Fetched | DownloadFailed]] = {}
        self._silent: dict[str, int] = {}  # by host: time-outs
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread
        self._slots: asyncio.Semaphore | None = None
        self._downloader: Downloader | None = None
        self.downloads = 0

    def start(self, url: str, *, crl: bool) -> None:
        """Start the download of a URL unless it was started before."""
        with self._lock:
            if (url, crl) not in self._started:
                self.downloads += 1
                self._started[url, crl] = asyncio.run_coroutine_threadsafe(self._fetch(url, self._largest[crl]), self._event_loop())

    def get(self, url: str, *, crl: bool) -> Fetched | DownloadFailed:
        """Wait for the download."""
        self.start(url, crl=crl)
        return self._started[url, crl].result()

    def _event_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop, started in its thread at first use."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=_run, args=(self._loop,), daemon=True, name="fetching")
            self._thread.start()
        return self._loop

    async def _fetch(self, url: str, largest: int) -> Fetched | DownloadFailed:
        self._slots = self._slots or asyncio.Semaphore(CONCURRENT)
        async with self._slots:
            host = urlsplit(url).netloc
            if self._silent.get(host, 0) >= MOST_SILENT:
                return DownloadFailed("the host did not respond to an earlier request", silent=True)
            found = await self._open_downloader().fetch(url, largest)
            if isinstance(found, DownloadFailed) and found.silent:
                self._silent[host] = self._silent.get(host, 0) + 1
            return found

    def _open_downloader(self) -> Downloader:
        if self._downloader is None:
            from distributor.clients.downloader import Bounds, Downloader  # noqa: PLC0415  heavy, and not every run downloads

            self._downloader = Downloader(Bounds(self._seconds, self._private, self._resolver), self._trusted())
        return self._downloader

    def _trusted(self) -> ssl.SSLContext:
        """The trust store of https; empty where it cannot be read, since CRLs by http do not need it."""
        try:
            return self._trust()
        except OSError:
            return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Cancel running downloads and stop the thread."""
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
        if self._downloader is not None:
            await self._downloader.close()


def _run(loop: asyncio.AbstractEventLoop) -> None:
    """Run an event loop until it is stopped."""
    try:
        loop.run_forever()
    finally:
        loop.close()
