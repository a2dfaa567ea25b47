"""Connects to an LDAP server with ldap3: its URL, TLS, the bind, limits on time and size of a response, and result codes as Errors.

ldap3 verifies host names itself and uses another trust store than the rest of the program, so its TLS wrapper and socket are replaced.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from distributor.errors import Error, InvalidInput, ServiceUnavailable
from distributor.model.people import escape_unsafe
from distributor.model.redaction import Redactor, without_password
from distributor.model.secret import Secret

LARGEST_RESPONSE = 16 * 2**20  # bytes of one response (a page of people has less than one); a hostile server could send for ever
SLOWEST_RESPONSE = 120.0  # seconds for one response, however slowly it trickles
_CHUNK = 64 * 1024  # bytes per read; ldap3 uses 4 096


def import_ldap3() -> Any:  # noqa: ANN401  ldap3 has no types
    """Import ldap3. Raises InvalidInput where it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # it uses old names of pyasn1
            import ldap3  # noqa: PLC0415  an extra, and slow to load
    except ModuleNotFoundError as error:
        raise InvalidInput("LDAP needs ldap3, which is not installed", hint="pip install 'distributor[ldap]'") from error
    return ldap3


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
        self._left, self._ends = LARGEST_RESPONSE, time.monotonic() + SLOWEST_RESPONSE

    def recv(self, size: int) -> bytes:
        """Some bytes. Raises OSError beyond the limits."""
        data: bytes = self.wrapped.recv(max(size, _CHUNK))
        self._left -= len(data)
        if self._left < 0:
            raise OSError(f"the response is larger than {LARGEST_RESPONSE // 2**20} MiB")
        if time.monotonic() > self._ends:
            raise OSError(f"the response takes longer than {SLOWEST_RESPONSE:g} s")
        return data

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  whatever else a socket has
        return getattr(self.wrapped, name)


# --- results --------------------------------------------------------------------------------


LONGEST_TEXT = 16 * 2**10  # characters of a server's message that are used
LONGEST = 300  # characters of a server's message that are shown
SUCCESS, SIZE_LIMIT, NO_SUCH_ATTRIBUTE, VALUE_EXISTS = 0, 4, 16, 20  # result codes, RFC 4511 appendix A
OPERATIONS_ERROR, TIME_LIMIT, STRONGER_AUTH, REFERRAL, ADMIN_LIMIT, CONFIDENTIALITY = 1, 3, 8, 10, 11, 13
NO_SUCH_OBJECT, INVALID_DN, NO_RIGHT = 32, 34, 50
_ERRNO = re.compile(r"\[Errno (\d+)\] ?")
_PREFIX = re.compile(r"^[a-z ]+(?:error|opening|data|request)\b[^:]*: ")


@dataclass(frozen=True, slots=True)
class LdapResult:
    """An LDAP result other than success: its code (RFC 4511 appendix A), the code's name, and the server's message."""

    code: int
    name: str
    text: str = ""

    def __str__(self) -> str:
        words = " ".join(filter(None, (_spaced(self.name), f'("{self.text}")' if self.text else "")))
        return f"{words} [{self.code}]"


def ldap_result(result: object, redact: Redactor) -> LdapResult:
    """From ldap3's result. `redact` removes our credentials, which a server may repeat."""
    values = result if isinstance(result, dict) else {}
    words = str(values.get("message") or "").split("\x00", maxsplit=1)[0]
    text = " ".join(redact(words[:LONGEST_TEXT]).split())
    return LdapResult(int(values.get("result", -1)), str(values.get("description", "")), escape_unsafe(text[:LONGEST]))


def bind_refused(no: LdapResult, where: str, key: str) -> Error:
    """The error of a refused bind."""
    return ServiceUnavailable(f"sign-in refused: {no}", where=where, hint=f"check `{key}.bind` and `{key}.password`")


def search_refused(no: LdapResult, where: str, key: str, base: str) -> Error:
    """The error of a refused search."""
    if no.code in {NO_SUCH_OBJECT, INVALID_DN}:
        return InvalidInput(f'there is no entry "{base}", or this account may not see it: {no}', where=where, hint=f"correct `{key}.base`")
    if no.code in {TIME_LIMIT, SIZE_LIMIT, ADMIN_LIMIT}:
        hint = "raise the size limit of this account (slapd: `limits` with size=unlimited), or narrow `filter`"
        return ServiceUnavailable(f"the server returned only part of the results: {no}", where=where, hint=hint)
    if no.code == REFERRAL:
        hint = f"name that server in `{key}.url`; referrals are not followed"
        return ServiceUnavailable(f"the server refers to another server: {no}", where=where, hint=hint)
    if no.code in {NO_RIGHT, OPERATIONS_ERROR, STRONGER_AUTH, CONFIDENTIALITY}:
        return ServiceUnavailable(
            f"the server denied access: {no}", where=where, hint=f"give the account in `{key}.bind` the right, or sign in with another"
        )
    return ServiceUnavailable(f"the server refused: {no}", where=where, hint="check the server's log, then run the command again")


def connection_failed(error: BaseException, failed: BaseException | None, where: str, seconds: float) -> ServiceUnavailable:
    """The error of a failed or broken connection; `failed`: the exception of TLS, of which ldap3 keeps only the text."""
    match failed or error:
        case ssl.SSLCertVerificationError(verify_message=reason):
            hint = "use the server name in its certificate, or trust its issuer: SSL_CERT_FILE=issuer.pem"
            return ServiceUnavailable(f'the certificate is not trusted: "{escape_unsafe(str(reason))}"', where=where, hint=hint)
        case ssl.SSLError(reason=reason):
            hint = "use ldaps:// with port 636, or ldap:// for StartTLS"
            return ServiceUnavailable(f"TLS failed: {str(reason or 'no reason').replace('_', ' ').lower()}", where=where, hint=hint)
        case _:
            return ServiceUnavailable(_plain(error, seconds), where=where, hint="check host and port, and that the server is running")


def _plain(error: BaseException, seconds: float) -> str:
    text = _innermost(error)
    if found := _ERRNO.search(text):
        return os.strerror(int(found[1])).lower()
    lower = text.lower()
    if "timed out" in lower or "temporarily unavailable" in lower:
        return f"no answer in {seconds:g} s"
    if "terminated by server" in lower:
        return "the connection was cut"
    if "invalid server address" in lower:
        return "cannot resolve the name"
    plain = escape_unsafe(_PREFIX.sub("", text)[:LONGEST]).rstrip(".") or type(error).__name__
    return plain[0].lower() + plain[1:]


def _innermost(error: BaseException) -> str:
    """Of several addresses that were tried, the first one's failure."""
    history = error.args[1] if len(error.args) > 1 else None
    if isinstance(history, list) and history and isinstance(history[0], tuple):
        return str(history[0][0])
    return str(error.args[0]) if error.args else str(error)


def _spaced(name: str) -> str:
    """`noSuchObject` as `no such object`."""
    return re.sub(r"(?<=[a-z])([A-Z])", lambda found: f" {found[1].lower()}", name)


# --- URL --------------------------------------------------------------------------------


LDAP, LDAPS = 389, 636  # ports
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_FORM = "write ldaps://ldap.example.org or ldap://ldap.example.org, with a port unless it is 636 or 389"


@dataclass(frozen=True, slots=True)
class LdapEndpoint:
    """A server. `security` is "tls" from the first byte, "starttls", or "none"."""

    host: str
    port: int
    security: str

    @property
    def scheme(self) -> str:
        """`ldaps` or `ldap`."""
        return "ldaps" if self.security == "tls" else "ldap"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.literal}:{self.port}"

    @property
    def literal(self) -> str:
        """The host as a URL has it."""
        return f"[{self.host}]" if ":" in self.host else self.host


@dataclass(frozen=True, slots=True)
class BadUrl:
    """Why a URL cannot be used, and what to do."""

    reason: str
    hint: str = _FORM


def parse_url(url: str, *, starttls: bool = True) -> LdapEndpoint | BadUrl:
    """The server that a URL names."""
    try:
        parts = urlsplit(url.strip())
        port, host = parts.port, parts.hostname or ""
    except ValueError:
        return BadUrl(f'"{without_password(url)}" is not a server URL')
    if parts.scheme not in {"ldap", "ldaps"}:
        return BadUrl(f'"{without_password(url)}" does not start with ldap:// or ldaps://')
    if parts.username is not None or parts.path not in {"", "/"} or parts.query or parts.fragment:
        return BadUrl("a server URL has no path, query or password", "put them into `base`, `filter` and `password`")
    if not (_HOST.fullmatch(host) or _is_ip(host)):
        return BadUrl(f'"{without_password(url)}" has no server name')
    if parts.scheme == "ldaps":
        return LdapEndpoint(host, port or LDAPS, "tls")
    return LdapEndpoint(host, port or LDAP, "starttls" if starttls else "none")


def is_loopback(host: str) -> bool:
    """Whether it is a name or address of this machine, without DNS."""
    return host.lower() == "localhost" or (_is_ip(host) and ipaddress.ip_address(host).is_loopback)


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


_STARTTLS = "1.3.6.1.4.1.1466.20037"


@dataclass(frozen=True)
class LdapBind:
    """The keys of every table with a directory."""

    url: str
    base: str  # the search base
    bind: str | None = None  # the bind DN; None: anonymous
    password: Secret | None = None
    starttls: bool = True  # false: ldap:// in clear, on this machine and anonymous only


def connect(place: LdapEndpoint, trust: TlsWrapper, sign_in: LdapBind | None, key: str, seconds: int) -> Any:  # noqa: ANN401  ldap3 has no types
    """Connect and bind; anonymous without `sign_in`. Also raises ldap3's exceptions."""
    library = import_ldap3()
    encrypted = place.security == "tls"
    server = library.Server(place.host, port=place.port, use_ssl=encrypted, get_info=library.NONE, connect_timeout=seconds)
    server.tls = trust  # its own would be asked for by name
    connection = library.Connection(server, auto_referrals=False, auto_range=False, check_names=False, receive_timeout=seconds)
    try:
        connection.open(read_server_info=False)
        connection.socket = BoundedSocket(connection.socket)
        if place.security == "starttls":
            _start_tls(connection, trust, str(place))
        _bind(library, connection, sign_in, key, str(place))
    except BaseException:
        disconnect(connection)
        raise
    return connection


def _start_tls(connection: Any, trust: TlsWrapper, where: str) -> None:  # noqa: ANN401
    connection.extended(_STARTTLS)
    no = ldap_result(connection.result, Redactor())  # no credentials were sent yet
    if no.code != SUCCESS:
        hint = "set up TLS on the server, or use ldaps://; nothing is sent unencrypted"
        raise ServiceUnavailable(f"the server refused StartTLS: {no}", where=where, hint=hint)
    connection.socket = connection.socket.wrapped
    trust.wrap_socket(connection)
    connection.socket = BoundedSocket(connection.socket)
    connection.tls_started = True


def _bind(library: Any, connection: Any, sign_in: LdapBind | None, key: str, where: str) -> None:  # noqa: ANN401
    if sign_in is None or sign_in.bind is None or sign_in.password is None:
        return  # a connection is anonymous before a bind (RFC 4513 4)
    if not sign_in.password:
        raise InvalidInput("empty", where=f"{key}.password", hint="empty password: the server would sign in anonymously")
    connection.authentication, connection.user = library.SIMPLE, sign_in.bind
    connection.password = sign_in.password.reveal()
    try:
        connection.bind(read_server_info=False)
        no = ldap_result(connection.result, Redactor([sign_in.password]))
    finally:
        connection.password = connection.request = None  # the request contains it too
    if no.code != SUCCESS:
        raise bind_refused(no, where, key)


def disconnect(connection: Any) -> None:  # noqa: ANN401
    """Unbind and close, whatever fails."""
    line = connection.socket
    with suppress(Exception):  # whatever a hostile or stopping server causes
        connection.unbind()
    if line is not None:
        line.close()
