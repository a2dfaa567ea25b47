"""A directory's users, by every address -> what is to be said of people on a roster. Read once a plan; holds as few users as it can."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator

from distributor.model.directory_users import DirectoryUser
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import Address, Person

SOURCE = "directory"  # where an issue comes from that no file brought
PRIMARY_ONLY = "Outlook hides a certificate whose address is not the primary one"
_DISABLED = "this person's account is disabled in the directory"


class Users:
    """Who is in a directory; each address leads to one user at most."""

    def __init__(self) -> None:
        self.by_key: dict[str, DirectoryUser] = {}  # by the primary address
        self._others: dict[str, str] = {}  # another address -> the primary one

    def add(self, entry: DirectoryUser) -> None:
        """Take in a user. Of two with the same primary address, the one counts that the mail system knows, then the one in use."""
        key = entry.person.address.key
        known = self.by_key.setdefault(key, entry)
        if (entry.authoritative, entry.enabled) > (known.authoritative, known.enabled):
            self.by_key[key] = entry
        for other in entry.aliases:
            self._others.setdefault(other, key)

    def find(self, key: str) -> DirectoryUser | None:
        """The user with this address, be it primary or not."""
        return self.by_key.get(key) or self.by_key.get(self._others.get(key, ""))

    def canonical_key(self, address: Address, wanted: Container[str]) -> str | None:
        """Which of the keys in `wanted` stands for the user with this address."""
        entry = self.find(address.key)
        keys = _keys(entry) if entry is not None else ()
        return next((key for key in keys if key in wanted and self.find(key) is entry), None)


def select_users(entries: Iterable[DirectoryUser | Issue], wanted: Container[str]) -> Users:
    """The users who go by one of the keys in `wanted`; whatever there is to say of the others is not asked for."""
    users = Users()
    for entry in entries:
        if isinstance(entry, DirectoryUser) and any(key in wanted for key in _keys(entry)):
            users.add(entry)
    return users


def _keys(entry: DirectoryUser) -> tuple[str, ...]:
    return entry.person.address.key, *entry.aliases


def compare(person: Person, entry: DirectoryUser | None) -> Issue | None:
    """What the directory has against somebody on the roster. An error: nothing may go there."""
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
        hint = "Outlook may compare message by message; write it alike if the certificate does not appear"
        return _about(person, Severity.WARNING, CheckId.ADDRESS_CASE, f'the directory writes "{primary}"', hint)
    return None


def _about(person: Person, severity: Severity, check: CheckId, message: str, hint: str) -> Issue:
    source, line = (person.hint.source, person.hint.line) if person.hint else (None, None)
    return Issue(severity, check, message, hint, source, line, str(person.address))


def disabled() -> Issue:
    """What is wrong with a certificate of somebody whose account is not in use."""
    return Issue(Severity.ERROR, CheckId.NO_PERSON, _DISABLED, "have the certificate revoked, or plan again once the account is enabled")


def without_certificate(count: int) -> Iterator[Issue]:
    """What is to be said of people in a whole directory who have no certificate: nobody wanted one for them."""
    if count:
        message = f"{count} people in the directory have no certificate here" if count > 1 else "one person in the directory has none here"
        hint = "name a group in [[rosters]] to be told who of it lacks one"
        yield Issue(Severity.NOTE, CheckId.NO_CERTIFICATE, message, hint, SOURCE)
