"""One connection to an LDAP directory: bound at first use, searched page by page, modified value by value.

A password is only sent over TLS; without TLS the bind is anonymous, and only on this machine. Referrals are not followed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from distributor.clients.ldap_connection import (
    NO_SUCH_ATTRIBUTE,
    NO_SUCH_OBJECT,
    SIZE_LIMIT,
    SUCCESS,
    VALUE_EXISTS,
    BadUrl,
    LdapBind,
    LdapEndpoint,
    LdapResult,
    TlsWrapper,
    connect,
    connection_failed,
    disconnect,
    import_ldap3,
    is_loopback,
    ldap_result,
    parse_url,
    search_refused,
)
from distributor.errors import Error, InvalidInput, ServiceUnavailable
from distributor.model.redaction import Redactor

__all__ = [
    "NO_SUCH_ATTRIBUTE",
    "NO_SUCH_OBJECT",
    "SUCCESS",
    "VALUE_EXISTS",
    "LdapBind",
    "LdapEndpoint",
    "LdapResult",
]  # of what is imported

TIMEOUT = 30  # seconds, for connecting and for each wait for a part of an answer
PAGE = 1000  # entries; the most that Active Directory returns at once
MOST_PAGES = 10_000
_PAGED = "1.2.840.113556.1.4.319"
_ACTIVE_DIRECTORY = frozenset({"1.2.840.113556.1.4.800", "1.2.840.113556.1.4.1851"})  # the real one, and its lightweight sister


@dataclass(frozen=True, slots=True)
class LdapEntry:
    """A directory entry. Attributes by lower-case name without `;binary`, values as received."""

    dn: str
    values: Mapping[str, tuple[bytes, ...]]

    def all(self, name: str) -> tuple[bytes, ...]:
        """Every value of an attribute."""
        return self.values.get(name.lower(), ())

    def texts(self, name: str) -> list[str]:
        """Every value of an attribute that is text."""
        return [value.decode("utf-8", "replace") for value in self.all(name)]

    def text(self, name: str) -> str:
        """The first value, or nothing."""
        return next(iter(self.texts(name)), "")


@dataclass(frozen=True, slots=True)
class LdapChange:
    """Values to delete from an attribute, which must be there, and values to add, which must not."""

    attribute: str
    gone: tuple[bytes, ...] = ()
    new: tuple[bytes, ...] = ()


def escape(text: str) -> str:
    """A text as a value in a filter (RFC 4515): nothing in it means anything."""
    return "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\{byte:02x}" for byte in text.encode())  # noqa: PLR2004  ASCII


def is_filter(text: str) -> bool:
    """Whether it looks like one; the server checks the rest."""
    plain = text.strip()
    return plain.startswith("(") and plain.endswith(")") and plain.count("(") == plain.count(")") and plain.isprintable()


def check(sign_in: LdapBind, key: str) -> InvalidInput | None:
    """What is wrong with a table, without connecting. `key` names it."""
    place = parse_url(sign_in.url, starttls=sign_in.starttls)
    if isinstance(place, BadUrl):
        return InvalidInput(place.reason, where=f"{key}.url", hint=place.hint)
    if place.security == "none" and not is_loopback(place.host):
        return InvalidInput(
            "without TLS only a server on this machine may be used", where=f"{key}.starttls", hint="remove the key, or use ldaps://"
        )
    if not sign_in.base.strip() or not sign_in.base.isprintable():
        return InvalidInput(
            "not a distinguished name (DN)", where=f"{key}.base", hint='write where the people are, such as "ou=people,dc=example,dc=org"'
        )
    if (sign_in.bind is None) != (sign_in.password is None):
        lacks = "password" if sign_in.password is None else "bind"
        return InvalidInput("missing", where=f"{key}.{lacks}", hint="set both `bind` and `password`, or neither for an anonymous bind")
    if sign_in.bind is not None and place.security == "none":
        return InvalidInput("the password would be sent unencrypted", where=f"{key}.starttls", hint="remove the key, or use ldaps://")
    return None


def ldap(sign_in: LdapBind, key: str) -> LdapClient:
    """The client for a checked table; does not connect yet."""
    place = parse_url(sign_in.url, starttls=sign_in.starttls)
    assert isinstance(place, LdapEndpoint)  # noqa: S101  checked before
    return LdapClient(place, sign_in, key)


class LdapClient:
    """A directory. Every failure raises an Error that names it."""

    def __init__(self, place: LdapEndpoint, sign_in: LdapBind | None = None, key: str = "url", seconds: int = TIMEOUT) -> None:
        self.place, self.where = place, str(place)
        self._sign_in, self._key, self._seconds = sign_in, key, seconds
        self._redact = Redactor([sign_in.password] if sign_in and sign_in.password else ())
        self._connection: Any = None
        self._trust: TlsWrapper | None = None
        self._capabilities: frozenset[str] | None = None

    def active_directory(self) -> bool:
        """Whether it is Active Directory."""
        if self._capabilities is None:
            self._capabilities = frozenset(self.root("supportedCapabilities").texts("supportedCapabilities"))
        return bool(self._capabilities & _ACTIVE_DIRECTORY)

    def root(self, *attributes: str) -> LdapEntry:
        """The server's root DSE."""
        found, _ = self.ask("", "(objectClass=*)", attributes, scope="BASE")
        return found[0] if found else LdapEntry("", {})

    def find(self, base: str, wanted: str, attributes: Sequence[str], most: int) -> list[LdapEntry]:
        """At most so many entries."""
        found, no = self.ask(base, wanted, attributes, most=most)
        if no.code not in {SUCCESS, SIZE_LIMIT} or (no.code == SIZE_LIMIT and len(found) < most):
            raise search_refused(no, self.where, self._key, base)
        return found[:most]

    def pages(self, base: str, wanted: str, attributes: Sequence[str]) -> Iterator[LdapEntry]:
        """Every entry; only one page is in memory at a time."""
        cookie: bytes | None = None
        for _ in range(MOST_PAGES):
            found, no = self.ask(base, wanted, attributes, page=PAGE, cookie=cookie)
            if no.code != SUCCESS:
                raise search_refused(no, self.where, self._key, base)
            yield from found
            cookie = self._cookie()
            if not cookie:
                return
        raise ServiceUnavailable(f"more than {MOST_PAGES} pages", where=self.where, hint="narrow `base` or `filter`")

    def ask(  # noqa: PLR0913  the parts of a search
        self,
        base: str,
        wanted: str,
        attributes: Sequence[str],
        *,
        scope: str = "SUBTREE",
        most: int = 0,
        page: int | None = None,
        cookie: bytes | None = None,
    ) -> tuple[list[LdapEntry], LdapResult]:
        """The entries of a search, and its result, also when it is an error."""
        with self._open() as connection:
            connection.search(
                base,
                wanted,
                scope,
                dereference_aliases="NEVER",
                attributes=list(attributes),
                size_limit=most,
                time_limit=self._seconds,
                paged_size=page,
                paged_cookie=cookie,
                paged_criticality=False,
            )
            found = [_entry(one) for one in connection.response or () if one.get("type") == "searchResEntry"]
            return found, ldap_result(connection.result, self._redact)

    def anonymous_bind(self) -> LdapResult:
        """The result of an anonymous bind."""
        with self._open() as connection:
            connection.bind()
            return ldap_result(connection.result, self._redact)

    def change(self, dn: str, changes: Sequence[LdapChange]) -> LdapResult | None:
        """Apply all changes or none; the result where the server refuses."""
        wanted: dict[str, list[tuple[str, list[bytes]]]] = {}
        for change in changes:
            steps = (("MODIFY_DELETE", change.gone), ("MODIFY_ADD", change.new))
            wanted.setdefault(change.attribute, []).extend((how, list(values)) for how, values in steps if values)
        with self._open() as connection:
            connection.modify(dn, wanted)
            no = ldap_result(connection.result, self._redact)
        return None if no.code == SUCCESS else no

    def close(self) -> None:
        """Unbind and close; never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            disconnect(connection)

    # --- the connection ----------------------------------------------------------------------------------------------

    def _cookie(self) -> bytes | None:
        controls = (self._connection.result or {}).get("controls") or {}
        cookie = controls.get(_PAGED, {}).get("value", {}).get("cookie")
        return cookie if isinstance(cookie, bytes) else None

    @contextmanager
    def _open(self) -> Iterator[Any]:
        """The connection for one request; a failure closes it and raises an Error."""
        library = import_ldap3()
        try:
            if self._connection is None:
                self._trust = TlsWrapper(self.place.host)
                self._connection = connect(self.place, self._trust, self._sign_in, self._key, self._seconds)
            self._connection.socket.begin()
            yield self._connection
        except Error:
            self.close()
            raise
        except library.core.exceptions.LDAPInvalidFilterError as error:
            hint = "write it as in RFC 4515: (&(objectClass=person)(departmentNumber=42))"
            raise InvalidInput("not an LDAP filter", where=f"{self._key}.filter", hint=hint) from error
        except (library.core.exceptions.LDAPException, OSError) as error:
            failed = self._trust.failed if self._trust else None
            self.close()
            raise connection_failed(error, failed, self.where, self._seconds) from None
        except Exception as error:  # of ldap3 and pyasn1 for a malformed response
            self.close()
            raise ServiceUnavailable(
                "the response is not LDAP", where=self.where, hint="check `url`: the server there does not speak LDAP"
            ) from error


def _entry(one: Mapping[str, Any]) -> LdapEntry:
    values: dict[str, tuple[bytes, ...]] = {}
    for name, raw in (one.get("raw_attributes") or {}).items():
        plain = str(name).lower().removesuffix(";binary")
        values[plain] = values.get(plain, ()) + tuple(bytes(value) for value in raw)
    return LdapEntry(str(one.get("dn") or ""), values)
