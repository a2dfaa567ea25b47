"""One connection to a folder of an IMAP mailbox (RFC 3501), by imap-tools: read without marking as read, marked or moved, never deleted.

imap-tools' own `flag` and, without MOVE, `move` end with EXPUNGE, which deletes what other programs marked; so neither is used here.
"""

from __future__ import annotations

import imaplib
import re
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from distributor.errors import Error, InvalidInput, ServiceUnavailable
from distributor.model.people import bounded
from distributor.model.redaction import Redactor
from distributor.model.secret import Secret

if TYPE_CHECKING:
    from imap_tools import BaseMailBox

IMAPS = 993  # the port for TLS from the start
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UID = re.compile(rb"\bUID (\d+)")
_RECEIVED = re.compile(rb'\bINTERNALDATE "([^"]{1,40})"')


@dataclass(frozen=True, slots=True)
class ImapServer:
    """Where to connect and how. `tls` is "implicit", "starttls" or "none"; `key` names its table; the time-out in seconds."""

    host: str
    port: int
    tls: str
    timeout: float
    key: str

    @property
    def where(self) -> str:
        """The server's name in errors."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class FetchedMail:
    """A mail of a folder; `raw` is cut at the length that was asked for."""

    uid: int
    raw: bytes
    received_at: datetime | None


class ImapFolder:
    """A selected folder. Blocks; one thread at a time. Every failure raises an Error that names server and cause."""

    def __init__(self, server: ImapServer, folder: str, username: str, secret: Secret, *, by_token: bool) -> None:
        self._server, self._key, self._redact = server, server.key, Redactor((secret,))
        self._folder = folder
        with self._translated("connect"):
            self._box = _connected(server)
        try:
            with self._translated("sign-in", refused=_LET_IN if by_token else "check `username` and `password`"):
                _sign_in(self._box, username, secret, by_token=by_token)
            with self._translated("SELECT", refused=f"correct `{self._key}.folder`"):
                self._box.folder.set(folder)
        except BaseException:
            self.close()
            raise
        self.validity = self._number("UIDVALIDITY")  # UIDs are those of an earlier connection only if this is the same

    def uids(self, *, after: int | None = None, since: date | None = None) -> list[int]:
        """The mails above a UID, or received since a day; ascending."""
        asked = (
            f"UID {after + 1}:*" if after is not None else f"SINCE {since.day}-{_MONTHS[since.month - 1]}-{since.year}" if since else "ALL"
        )
        with self._translated("SEARCH"):
            found = sorted(int(uid) for uid in self._box.uids(asked, charset=None))
        return [uid for uid in found if after is None or uid > after]  # "9:*" names the last mail too where it is below 9

    def fetch(self, uids: Sequence[int], largest: int) -> list[FetchedMail]:
        """These mails, as far as they are still there; not marked as read."""
        with self._translated("FETCH"):
            kind, parts = self._box.client.uid("FETCH", _joined(uids), f"(UID INTERNALDATE BODY.PEEK[]<0.{largest}>)")
            _check(kind, parts)
            return sorted(_mails(parts), key=lambda mail: mail.uid)

    def set_keyword(self, uids: Sequence[int], keyword: str) -> None:
        """Add a keyword; nothing on a server that keeps none, such as Exchange Online."""
        kept = self._untagged("PERMANENTFLAGS")
        if "\\*" not in kept and keyword.lower() not in kept.lower():
            return
        with self._translated("STORE"):
            _check(*self._box.client.uid("STORE", _joined(uids), "+FLAGS.SILENT", f"({keyword})"))

    def move(self, uids: Sequence[int], folder: str) -> None:
        """Move mails to another folder (RFC 6851)."""
        from imap_tools.utils import encode_folder  # noqa: PLC0415  an extra

        if not self.can_move():
            raise InvalidInput("the server cannot move mails (RFC 6851)", where=self._server.where, hint=f"remove `{self._key}.move_to`")
        with self._translated("MOVE", refused=f"create the folder, or correct `{self._key}.move_to`"):
            _check(*self._box.client.uid("MOVE", _joined(uids), encode_folder(folder).decode()))

    def can_move(self) -> bool:
        """Whether the server has MOVE; asked for again, since some tell it only after the sign-in."""
        with self._translated("CAPABILITY"):
            kind, parts = self._box.client.capability()
            _check(kind, parts)
            return b"MOVE" in (parts[-1] or b"").upper().split()

    def has_folder(self, name: str) -> bool:
        """Whether there is such a folder."""
        with self._translated("LIST"):
            return bool(self._box.folder.exists(name))

    def close(self) -> None:
        """Log out and close; never raises. CLOSE would delete what other programs marked, so it is not sent."""
        with suppress(Exception):
            self._box.client.logout()
        with suppress(Exception):
            self._box.client.shutdown()

    def _number(self, name: str) -> int:
        digits = self._untagged(name)
        return int(digits) if digits.isascii() and digits.isdigit() else 0

    def _untagged(self, name: str) -> str:
        found: Sequence[object] = self._box.client.untagged_responses.get(name) or [b""]
        return _words(found)

    @contextmanager
    def _translated(self, verb: str, refused: str | None = None) -> Iterator[None]:
        """Turn errors of the library and the network into an Error; `refused`: the hint where the server says no."""
        try:
            yield
        except Error:
            raise
        except ssl.SSLCertVerificationError as error:
            hint = "use the server name in its certificate, or trust its issuer: SSL_CERT_FILE=issuer.pem"
            message = f'the certificate is not trusted: "{error.verify_message}"'
            raise ServiceUnavailable(message, where=self._server.where, hint=hint) from None
        except (TimeoutError, OSError, imaplib.IMAP4.abort, EOFError) as error:
            raise self._unreached(verb, error) from None
        except Exception as error:  # noqa: BLE001  imaplib's and imap-tools', and whatever a malformed response leads to
            message = f'{verb} was refused: "{bounded(self._redact(_said(error)))}"'
            hint = refused or f"check `{self._key}`, then run the command again"
            raise ServiceUnavailable(message, where=self._server.where, hint=hint) from None

    def _unreached(self, verb: str, error: BaseException) -> ServiceUnavailable:
        match error:
            case TimeoutError():
                why = f"no answer to {verb} in {self._server.timeout:g} s"
            case socket.gaierror():
                why = "no such host"
            case imaplib.IMAP4.abort() | EOFError():
                why = f"the connection was cut at {verb}"
            case ssl.SSLError():
                why = "the server does not speak TLS here"
            case _:
                why = (getattr(error, "strerror", None) or f"the connection was cut at {verb}").lower()
        hint = f"check `host`, `port` and `tls` of {self._key}, and that the server runs"
        return ServiceUnavailable(why, where=self._server.where, hint=hint)


_LET_IN = (
    "give the app the permission IMAP.AccessAsApp with admin consent, register it in Exchange Online (New-ServicePrincipal), "
    "and let it into the mailbox: Add-MailboxPermission -AccessRights FullAccess"
)


def import_imap_tools() -> Any:  # noqa: ANN401  a module
    """Import imap-tools. Raises InvalidInput where it is not installed."""
    try:
        import imap_tools  # noqa: PLC0415  an extra, and slow to load
    except ModuleNotFoundError as error:
        raise InvalidInput("IMAP needs imap-tools, which is not installed", hint="pip install 'distributor[imap]'") from error
    return imap_tools


def _connected(server: ImapServer) -> BaseMailBox:
    library = import_imap_tools()
    box: BaseMailBox
    if server.tls == "none":
        box = library.MailBoxUnencrypted(server.host, server.port, timeout=server.timeout)
    elif server.tls == "starttls":
        box = library.MailBoxStartTls(server.host, server.port, timeout=server.timeout, ssl_context=ssl.create_default_context())
    else:
        box = library.MailBox(server.host, server.port, timeout=server.timeout, ssl_context=ssl.create_default_context())
    return box


def _sign_in(box: BaseMailBox, username: str, secret: Secret, *, by_token: bool) -> None:
    if by_token:
        box.xoauth2(username, secret.reveal(), initial_folder=None)
    elif f"{username}{secret.reveal()}".isascii():
        box.login(username, secret.reveal(), initial_folder=None)
    else:
        box.login_utf8(username, secret.reveal(), initial_folder=None)


def _joined(uids: Sequence[int]) -> str:
    return ",".join(map(str, uids))


def _check(kind: str, parts: Sequence[Any]) -> None:
    if kind != "OK":
        raise imaplib.IMAP4.error(_words(parts))


def _said(error: BaseException) -> str:
    """The server's words in an exception."""
    result = getattr(error, "command_result", None)
    return _words(result[1]) if isinstance(result, tuple) and len(result) > 1 else str(error)


def _words(parts: object) -> str:
    last = parts[-1] if isinstance(parts, list | tuple) and parts else parts
    return last.decode("utf-8", "replace") if isinstance(last, bytes) else str(last)


def _mails(parts: Sequence[Any]) -> Iterator[FetchedMail]:
    """The mails in a FETCH response: a tuple of attributes and literal each, and perhaps more attributes behind it."""
    for place, part in enumerate(parts):
        if isinstance(part, tuple):
            behind = parts[place + 1] if place + 1 < len(parts) and isinstance(parts[place + 1], bytes) else b""
            attributes = part[0] + b" " + behind
            uid, received = _UID.search(attributes), _RECEIVED.search(attributes)
            if uid:
                yield FetchedMail(int(uid[1]), bytes(part[1]), _moment(received[1]) if received else None)


def _moment(text: bytes) -> datetime | None:
    try:
        return parsedate_to_datetime(text.decode("ascii").strip()).astimezone(UTC)
    except (ValueError, TypeError, OverflowError):
        return None
