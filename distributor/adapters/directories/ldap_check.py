"""A table that names a directory (LDAP) -> what `doctor` says of it: reached, signed in to, and its base is there. Nothing is written."""

from __future__ import annotations

from contextlib import closing
from shlex import quote

from distributor.clients import ldap as client
from distributor.clients.ldap import LdapBind
from distributor.errors import Error
from distributor.microsoft.powershell import steps
from distributor.model.issues import Diagnostic

_ANYTHING = "(objectClass=*)"


def examine(settings: LdapBind, key: str, area: str) -> list[Diagnostic]:
    """Asks for one entry below the base."""
    if (fault := client.check(settings, key)) is not None:
        return [Diagnostic(area, "error", str(fault), fault.hint)]
    with closing(client.ldap(settings, key)) as line:
        try:
            found = line.find(settings.base, _ANYTHING, ("objectClass",), 1)
        except Error as error:
            return [
                Diagnostic(area, "error", str(error), steps(f"{error.hint}; the same question without distributor:", (_by_hand(settings),)))
            ]
        who = f"signed in as {settings.bind}" if settings.bind else "anonymously"
        if not found:
            return [
                Diagnostic(area, "warning", f'{line.where}, {who}: nothing below "{settings.base}" can be seen', f"correct `{key}.base`")
            ]
        return [Diagnostic(area, "ok", f"{line.where} answers, {who}")]


def _by_hand(settings: LdapBind) -> str:
    """OpenLDAP's own client asks for the password."""
    secure = " -ZZ" if settings.starttls and settings.url.lower().startswith("ldap://") else ""
    signed = f" -D {quote(settings.bind)} -W" if settings.bind else ""
    return f"ldapsearch -x -H {quote(settings.url)}{secure}{signed} -b {quote(settings.base)} -s base dn"
