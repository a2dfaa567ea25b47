"""Compares people on a roster with a directory's users, found by any of their addresses. Keeps only the users that are needed."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from distributor.model.directory_users import DirectoryUser
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import Address, Person

SOURCE = "directory"  # of an issue that comes from no file
PRIMARY_ONLY = "Outlook hides a certificate whose address is not the primary one"
_DISABLED = "this person's account is disabled in the directory"


class Users:
    """Users of a directory; an address belongs to one user at most."""

    def __init__(self) -> None:
        self.by_key: dict[str, DirectoryUser] = {}  # by the primary address
        self._others: dict[str, str] = {}  # another address -> the primary one

    def add(self, entry: DirectoryUser) -> None:
        """Add a user. Of two with the same primary address, the authoritative one counts, then the enabled one."""
        key = entry.person.address.key
        known = self.by_key.setdefault(key, entry)
        if (entry.authoritative, entry.enabled) > (known.authoritative, known.enabled):
            self.by_key[key] = entry
        for other in entry.aliases:
            self._others.setdefault(other, key)

    def find(self, key: str) -> DirectoryUser | None:
        """The user with this address, primary or alias."""
        return self.by_key.get(key) or self.by_key.get(self._others.get(key, ""))

    def canonical_key(self, address: Address, selected: Container[str]) -> str | None:
        """The key among `selected` that belongs to the user with this address."""
        entry = self.find(address.key)
        keys = _keys(entry) if entry is not None else ()
        return next((key for key in keys if key in selected and self.find(key) is entry), None)


def select_users(entries: Iterable[DirectoryUser | Issue], selected: Container[str]) -> Users:
    """The users with one of these address keys; issues about other users do not matter here."""
    users = Users()
    for entry in entries:
        if isinstance(entry, DirectoryUser) and any(key in selected for key in _keys(entry)):
            users.add(entry)
    return users


def _keys(entry: DirectoryUser) -> tuple[str, ...]:
    return entry.person.address.key, *entry.aliases


def compare(person: Person, entry: DirectoryUser | None) -> Issue | None:
    """How a person on the roster differs from the directory. An error: nothing may be sent to them."""
    if entry is None:
        hint = "check the address, and whom [[rosters]] leaves out; if the person has left, have the certificate revoked"
        return _about(person, Severity.WARNING, CheckId.NO_PERSON, "this person is not in the directory", hint)
    primary = entry.person.address
    if not entry.enabled:
        hint = "remove the row, or plan again once the account is enabled"
        return _about(person, Severity.ERROR, CheckId.NO_PERSON, _DISABLED, hint)
    if primary.key != person.address.key:
        message = f'the primary address of this person is "{primary}" in the directory'
        hint = f"{PRIMARY_ONLY}; write that in the row, with a certificate for it"
        return _about(person, Severity.ERROR, CheckId.ADDRESS_MISMATCH, message, hint)
    if primary.local != person.address.local:
        hint = "Outlook may compare character by character; write it alike if the certificate does not appear"
        return _about(person, Severity.WARNING, CheckId.ADDRESS_CASE, f'the directory writes "{primary}"', hint)
    return None


def _about(person: Person, severity: Severity, check: CheckId, message: str, hint: str) -> Issue:
    source, line = (person.hint.source, person.hint.line) if person.hint else (None, None)
    return Issue(severity, check, message, hint, source, line, str(person.address))


def disabled() -> Issue:
    """The issue of a certificate whose owner's account is disabled."""
    return Issue(Severity.ERROR, CheckId.NO_PERSON, _DISABLED, "have the certificate revoked, or plan again once the account is enabled")


def without_certificate(count: int) -> Iterator[Issue]:
    """One note for all people without a certificate in a whole directory, where nobody named them."""
    if count:
        message = f"{count} people in the directory have no certificate here" if count > 1 else "one person in the directory has none here"
        hint = "name a group in [[rosters]] to be told who of it lacks one"
        yield Issue(Severity.NOTE, CheckId.NO_CERTIFICATE, message, hint, SOURCE)
