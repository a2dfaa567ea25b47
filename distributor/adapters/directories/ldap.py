"""Publishes a person's certificate in `userCertificate;binary` of the LDAP entry with their address, and removes expired ones.

Only differences are written, value by value, so that nothing is lost that somebody else writes at the same time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from shlex import quote
from typing import TYPE_CHECKING

from distributor.clients import ldap as client
from distributor.clients.ldap import NO_SUCH_ATTRIBUTE, VALUE_EXISTS, LdapBind, LdapChange, LdapEntry, LdapResult, check, escape, is_filter
from distributor.errors import Error, InvalidInput
from distributor.microsoft.powershell import steps
from distributor.model.certificates import PublicationRequest, PublicationResult
from distributor.model.issues import CheckId, Diagnostic, Issue, Severity
from distributor.model.people import escape_unsafe

if TYPE_CHECKING:
    from distributor.microsoft.ldap_lookup import LdapProbe


MOST_VALUES = 15  # the most that Entra Connect exports; of an entry with more it exports none (facts: exchange.md 3.1)
TRIES = 3  # when others write to the same entry at the same time
ADDRESS = "{address}"
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_HOLDS = frozenset({"inetorgperson", "pkiuser", "strongauthenticationuser"})  # object classes that allow a certificate
_SMIME = "userSMIMECertificate"


@dataclass(frozen=True)
class Settings(LdapBind):
    """`[[directories]]` of kind ldap."""

    filter: str = "(mail={address})"  # finds the entry; the address is escaped
    attribute: str = "userCertificate"
    active_directory: bool | None = None  # None: ask the server


def open(settings: Settings, key: str) -> LdapDirectory:  # noqa: A001  every adapter has this name
    """The directory; connects when something is published. `key` names its table. Raises InvalidInput for settings that cannot work."""
    if (fault := check(settings, key)) is not None:
        raise fault
    plain = settings.filter.replace(ADDRESS, "")
    if plain == settings.filter or "{" in plain or not is_filter(plain):
        raise InvalidInput(
            "not a filter that finds people by their address",
            where=f"{key}.filter",
            hint='write it in parentheses with {address} in it: "(mail={address})"',
        )
    if not _NAME.fullmatch(settings.attribute):
        raise InvalidInput(
            "not an attribute name", where=f"{key}.attribute", hint="write userCertificate, without ;binary, or remove the key"
        )
    if settings.attribute.casefold() == _SMIME.casefold():
        hint = "remove the key: every client reads userCertificate"
        raise InvalidInput(f"{_SMIME} holds a signed message, not a certificate", where=f"{key}.attribute", hint=hint)
    return LdapDirectory(client.ldap(settings, key), settings)


def probe(host: str, addresses: Sequence[str]) -> LdapProbe:
    """What the server answers a phone, for `distributor trust ldap`."""
    from distributor.adapters.directories import ldap_probe  # noqa: PLC0415  loads cryptography: slow

    return ldap_probe.probe(host, addresses)


class LdapDirectory:
    """Publishes into the entries of people."""

    def __init__(self, asked: client.LdapClient, settings: Settings) -> None:
        self._client, self._settings = asked, settings
        self.where = f"{asked.where}/{settings.base}"

    def publish(self, public: PublicationRequest, now: datetime) -> PublicationResult | Issue:
        """Write or remove one person's certificates; see model.certificates.PublicDirectory."""
        for _ in range(TRIES - 1):
            done = self._once(public, now)
            if not isinstance(done, _Overtaken):
                return done
        done = self._once(public, now)
        return _refused(public, done.entry, done.no, self._settings.attribute) if isinstance(done, _Overtaken) else done

    def _once(self, public: PublicationRequest, now: datetime) -> PublicationResult | Issue | _Overtaken:
        entry = self._find(public)
        if isinstance(entry, Issue):
            return (
                PublicationResult("", changed=False) if public.leaf is None and entry.check is CheckId.NO_PERSON else entry
            )  # nothing can be there
        work = self._work(entry, public, now)
        changes = self._changes(entry, work)
        no = self._client.change(entry.dn, changes) if changes else None
        if no is None:
            return _done(entry, public, work)
        if no.code in {NO_SUCH_ATTRIBUTE, VALUE_EXISTS}:
            return _Overtaken(entry, no)
        return _refused(public, entry, no, self._settings.attribute)

    def close(self) -> None:
        """Unbind and close."""
        self._client.close()

    @property
    def _attribute(self) -> str:
        """The attribute's name for writing: Active Directory does not know `;binary`, others require it (RFC 4523 2.1)."""
        return self._settings.attribute if self._is_active else f"{self._settings.attribute};binary"

    @property
    def _is_active(self) -> bool:
        configured = self._settings.active_directory
        return self._client.active_directory() if configured is None else configured

    def _find(self, public: PublicationRequest) -> LdapEntry | Issue:
        """The one entry with the person's address."""
        filter_ = self._settings.filter.replace(ADDRESS, escape(str(public.address)))
        found = self._client.find(self._settings.base, filter_, ("objectClass", self._attribute, _SMIME), 2)
        if len(found) == 1:
            return found[0]
        if not found:
            hint = "create the entry or correct its mail attribute; it is searched for with `base` and `filter` of [[directories]]"
            return _issue(public, CheckId.NO_PERSON, f'no entry with this address below "{self._settings.base}"', hint)
        names = " and ".join(f'"{escape_unsafe(entry.dn)}"' for entry in found)
        return _issue(
            public,
            CheckId.DUPLICATE,
            f"several entries have this address: {names}",
            "remove the address from the others, or narrow `filter`",
        )

    def _work(self, entry: LdapEntry, public: PublicationRequest, now: datetime) -> _Work:
        """The values to remove and to add; where nothing is to be published, only the person's own certificates are removed."""
        values = entry.all(self._settings.attribute)
        ours = tuple(value for value in values if value != public.leaf and _digest(value) in public.gone)
        if public.leaf is None:
            return _Work(ours, (), None, 0)
        gone = tuple(value for value in values if value != public.leaf and (value in ours or is_expired(value, now)))
        left = len(values) - len(gone)
        return _Work(gone, (public.leaf,) if public.leaf not in values else (), public.leaf, left)

    def _changes(self, entry: LdapEntry, work: _Work) -> list[LdapChange]:
        """The changes: deletions always, the new certificate unless the entry is full."""
        new = () if work.is_full else work.new
        changes = [LdapChange(self._attribute, work.gone, new)] if work.gone or new else []
        return [*self._object_class(entry), *changes] if new else changes

    def _object_class(self, entry: LdapEntry) -> Sequence[LdapChange]:
        """Add an object class that allows certificates, where none of the entry's does; where they are invisible, the server decides."""
        classes = {name.casefold() for name in entry.texts("objectClass")}
        return () if self._is_active or not classes or classes & _HOLDS else (LdapChange("objectClass", (), (b"pkiUser",)),)


@dataclass(frozen=True, slots=True)
class _Work:
    """Values to remove and to add, the certificate to publish, and how many values stay."""

    gone: tuple[bytes, ...]
    new: tuple[bytes, ...]
    leaf: bytes | None
    left: int

    @property
    def is_full(self) -> bool:
        """Whether the entry has, or would have, more values than are exported."""
        return self.left + len(self.new) > MOST_VALUES


def _done(entry: LdapEntry, public: PublicationRequest, work: _Work) -> PublicationResult | Issue:
    """The result after the server accepted the changes."""
    full = _full(public, work) if work.is_full else None
    written = bool(work.gone or (work.new and not full))
    if full is not None and work.new and not written:
        return full
    removed = public.gone & frozenset(map(_digest, work.gone))
    return PublicationResult(entry.dn, written, full or _before_ours(public, entry), removed, holds=not (full and work.new))


def _full(public: PublicationRequest, work: _Work) -> Issue:
    effect = "this one was not added" if work.new else "Entra Connect exports none of them"
    message = f"the entry has {work.left} unexpired certificates (limit: {MOST_VALUES}), so {effect}"
    return _issue(public, CheckId.NOT_PUBLISHED, message, "remove old certificates from the entry")


@dataclass(frozen=True, slots=True)
class _Overtaken:
    """Somebody else changed the entry since it was read, or it has a value that the server takes for equal."""

    entry: LdapEntry
    no: LdapResult


def is_expired(value: bytes, now: datetime) -> bool:
    """Whether it is an expired certificate; what cannot be parsed is not ours, and stays."""
    from distributor.pki.certificate import Certificate, load  # noqa: PLC0415  slow to load; the configuration is checked without

    found = load(value)
    return isinstance(found, Certificate) and found.not_after <= now


def _digest(value: bytes) -> str:
    return sha256(value).hexdigest()


def _refused(public: PublicationRequest, entry: LdapEntry, no: LdapResult, attribute: str) -> Issue:
    """The issue of one entry that the server does not let us write; others may be writable."""
    hint = f'give the account in `bind` write access to {attribute} and objectClass of "{escape_unsafe(entry.dn)}"'
    return _issue(public, CheckId.NOT_PUBLISHED, f"the directory refused the certificate: {no}", hint)


def _before_ours(public: PublicationRequest, entry: LdapEntry) -> Issue | None:
    """Outlook takes a userSMIMECertificate first, a signed message with the certificate in it (facts: exchange.md 3.1)."""
    if public.leaf is None or all(public.leaf in value for value in entry.all(_SMIME)):
        return None
    message = f"the entry's {_SMIME} has a different certificate, and Outlook uses that first"
    return _issue(public, CheckId.NOT_PUBLISHED, message, f"remove or update {_SMIME}", Severity.WARNING)


def _issue(public: PublicationRequest, check_: CheckId, message: str, hint: str, severity: Severity = Severity.ERROR) -> Issue:
    return Issue(severity, check_, message, hint, "directory", None, str(public.address))


# --- ldap check --------------------------------------------------------------------------------
# Checks an LDAP directory for `doctor`: connects, signs in, looks for the base. Writes nothing.


_ANYTHING = "(objectClass=*)"


def check_directory(settings: LdapBind, key: str, area: str) -> list[Diagnostic]:
    """Ask for one entry below the base. `key` and `area` name the table and the part of `doctor`."""
    if (fault := client.check(settings, key)) is not None:
        return [Diagnostic(area, "error", str(fault), fault.hint)]
    with closing(client.ldap(settings, key)) as connection:
        try:
            found = connection.find(settings.base, _ANYTHING, ("objectClass",), 1)
        except Error as error:
            return [
                Diagnostic(
                    area, "error", str(error), steps(f"{error.hint}; to try the same search without distributor:", (_by_hand(settings),))
                )
            ]
        who = f"signed in as {settings.bind}" if settings.bind else "anonymously"
        if not found:
            return [
                Diagnostic(
                    area, "warning", f'{connection.where}, {who}: cannot see any entry below "{settings.base}"', f"correct `{key}.base`"
                )
            ]
        return [Diagnostic(area, "ok", f"{connection.where} responds, {who}")]


def _by_hand(settings: LdapBind) -> str:
    """The same search with OpenLDAP's client, which asks for the password."""
    secure = " -ZZ" if settings.starttls and settings.url.lower().startswith("ldap://") else ""
    signed = f" -D {quote(settings.bind)} -W" if settings.bind else ""
    return f"ldapsearch -x -H {quote(settings.url)}{secure}{signed} -b {quote(settings.base)} -s base dn"
