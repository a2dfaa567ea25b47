"""Reads people from an LDAP directory; keeps one page in memory.

The address is the primary one, `SMTP:` among the proxyAddresses that Exchange keeps, else the first `mail`. Disabled accounts are entries,
but not people: nothing is planned for them, and a certificate of theirs is an issue.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from distributor.clients import ldap as client
from distributor.clients.ldap import LdapBind, LdapEntry, check, is_filter
from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.microsoft import directory_user
from distributor.model.issues import Issue
from distributor.model.people import Address, DirectoryUser, Person, in_use, with_primary

DISABLED = ("userAccountControl", "nsAccountLock", "pwdAccountLockedTime")
FIELDS = ("mail", "proxyAddresses", "displayName", "cn", "preferredLanguage", "otherMailbox", "userPrincipalName", *DISABLED)
REACHABLE = "(|(mail=*)(proxyAddresses=*))"
EVERYBODY = "(objectClass=person)"
MOST = 20  # entries with one address: the person, and others of whom it is an alias
_ACCOUNTDISABLE = 0x2  # of userAccountControl [MS-ADTS 2.2.16]
_FOR_EVER = "000001010000Z"  # pwdAccountLockedTime of an account that an administrator locked (slapo-ppolicy)


@dataclass(frozen=True)
class Settings(LdapBind):
    """`[[rosters]]` of kind ldap. Without a filter, everybody below `base`."""

    filter: str | None = None  # RFC 4515; people without an address are left out anyway


def open(settings: Settings, key: str) -> LdapRoster:  # noqa: A001  every adapter has this name
    """The roster; connects when it is read. `key` names its table. Raises InvalidInput for settings that cannot work."""
    if (fault := check(settings, key)) is not None:
        raise fault
    if settings.filter is not None and not is_filter(settings.filter):
        hint = 'write it in parentheses: "(departmentNumber=42)", or remove the key to include everyone'
        raise InvalidInput("not an LDAP filter", where=f"{key}.filter", hint=hint)
    return LdapRoster(client.ldap(settings, key), settings)


class LdapRoster:
    """People in a directory."""

    def __init__(self, asked: client.LdapClient, settings: Settings) -> None:
        self._client, self._settings = asked, settings
        self.is_full_directory = settings.filter is None

    def people(self) -> Iterator[Person | Issue]:
        """Everybody in use, or the issue of a bad address. Raises ServiceUnavailable, or InvalidInput for a missing base."""
        return in_use(self.entries())

    def entries(self) -> Iterator[DirectoryUser | Issue]:
        """Every person with an address, disabled ones too."""
        filter_ = f"(&{REACHABLE}{self._settings.filter or EVERYBODY})"
        shown: bool | None = None  # whether an attribute that tells of disabled accounts is there for anybody
        try:
            for found in self._client.pages(self._settings.base, filter_, FIELDS):
                shown = bool(shown) or any(found.all(name) for name in DISABLED)
                match directory_user.to_directory_user(_user(found)):
                    case Issue() as issue:
                        yield replace(issue, hint="correct the entry in the directory")
                    case DirectoryUser() as entry:
                        yield entry
            if shown is False and self._client.active_directory():
                raise _hidden(self._client.where)
        finally:
            self._client.close()

    def find(self, address: Address) -> DirectoryUser | None:
        """The user with this primary address, among those below the base and of the filter."""
        values = [client.escape(text) for text in directory_user.spellings(address)]
        wanted = "".join(f"(mail={value})(proxyAddresses=smtp:{value})" for value in values)
        try:
            found = self._client.find(self._settings.base, f"(&(|{wanted}){self._settings.filter or EVERYBODY})", FIELDS, MOST)
            if found and not any(entry.all(name) for entry in found for name in DISABLED) and self._client.active_directory():
                raise _hidden(self._client.where)
        finally:
            self._client.close()
        return with_primary(address, (directory_user.to_directory_user(_user(entry)) for entry in found))


def _hidden(where: str) -> ServiceUnavailable:
    hint = f"give the account in `bind` read access to {DISABLED[0]}"
    return ServiceUnavailable("the account in `bind` cannot see which accounts are disabled", where=where, hint=hint)


def _user(found: LdapEntry) -> dict[str, Any]:
    """The entry as Graph's JSON: only `directory_user` knows which address is primary."""
    mails = found.texts("mail")
    return {
        "id": found.dn,
        "displayName": found.text("displayName") or found.text("cn"),
        "mail": next(iter(mails), ""),
        "proxyAddresses": [*found.texts("proxyAddresses"), *(f"smtp:{mail}" for mail in mails[1:])],
        "otherMails": [text.rpartition("$")[2].strip() for text in found.texts("otherMailbox")],  # RFC 1274 writes smtp$a@b
        "userPrincipalName": found.text("userPrincipalName"),
        "accountEnabled": not _is_disabled(found),
        "preferredLanguage": found.text("preferredLanguage").partition(",")[0].partition(";")[0].strip(),  # as Accept-Language has it
    }


def _is_disabled(found: LdapEntry) -> bool:
    """Whether the account is disabled, by the attributes of Active Directory, 389 Directory Server and OpenLDAP."""
    control = found.text(DISABLED[0])
    flags = int(control) if control.removeprefix("-").isdecimal() else 0
    return bool(flags & _ACCOUNTDISABLE) or found.text(DISABLED[1]).casefold() == "true" or found.text(DISABLED[2]) == _FOR_EVER
