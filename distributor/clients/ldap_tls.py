"""ldap3 underneath its API: its import, TLS with our verification, and limits on the time and size of a response.

ldap3 verifies host names itself and uses another trust store than the rest of the program, so its TLS wrapper and socket are replaced.
"""

from __future__ import annotations

import ssl
import time
import warnings
from typing import Any

from distributor.errors import InvalidInput

LARGEST = 16 * 2**20  # bytes of one response (a page of people has less than one); a hostile server could send for ever
SLOWEST = 120.0  # seconds for one response, however slowly it trickles
_CHUNK = 64 * 1024  # bytes per read; ldap3 uses 4 096


def library() -> Any:  # noqa: ANN401  ldap3 has no types
    """Import ldap3. Raises InvalidInput where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it uses old names of pyasn1
            import ldap3  # noqa: PLC0415  an extra, and slow to load
    except ModuleNotFoundError as error:
        raise InvalidInput("LDAP needs ldap3, which is not installed", hint="pip install 'distributor[ldap]'") from error
    return ldap3


class TooMuchError(OSError):
    """A response beyond the limits of size or time."""


class TlsWrapper:
    """Replaces ldap3's Tls: the system's trust and SSL_CERT_FILE, the host name verified by OpenSSL."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._context = ssl.create_default_context()
        self.failed: Exception | None = None  # ldap3 keeps only its text

    def wrap_socket(self, connection: Any, do_handshake: bool = True) -> None:  # noqa: ANN401, FBT001, FBT002  ldap3's own call
        """Encrypt a connection's socket."""
        del do_handshake
        try:
            connection.socket = self._context.wrap_socket(connection.socket, server_hostname=self._host)
        except (OSError, ValueError) as error:
            self.failed = error
            raise


class BoundedSocket:
    """A socket with limits on bytes and time for each response."""

    def __init__(self, wrapped: Any) -> None:  # noqa: ANN401  a socket, encrypted or not
        self.wrapped = wrapped
        self.begin()

    def begin(self) -> None:
        """Reset the limits for a new request."""
        self._left, self._ends = LARGEST, time.monotonic() + SLOWEST

    def recv(self, size: int) -> bytes:
        """Some bytes."""
        data: bytes = self.wrapped.recv(max(size, _CHUNK))
        self._left -= len(data)
        if self._left < 0:
            raise TooMuchError(f"the answer is larger than {LARGEST // 2**20} MiB")
        if time.monotonic() > self._ends:
            raise TooMuchError(f"the answer takes longer than {SLOWEST:g} s")
        return data

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  whatever else a socket has
        return getattr(self.wrapped, name)
