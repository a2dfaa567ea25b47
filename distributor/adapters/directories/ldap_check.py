"""Checks an LDAP directory for `doctor`: connects, signs in, looks for the base. Writes nothing."""

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
    """Ask for one entry below the base. `key` and `area` name the table and the part of `doctor`."""
    if (fault := client.check(settings, key)) is not None:
        return [Diagnostic(area, "error", str(fault), fault.hint)]
    with closing(client.ldap(settings, key)) as connection:
        try:
            found = connection.find(settings.base, _ANYTHING, ("objectClass",), 1)
        except Error as error:
            return [
                Diagnostic(area, "error", str(error), steps(f"{error.hint}; the same question without distributor:", (_by_hand(settings),)))
            ]
        who = f"signed in as {settings.bind}" if settings.bind else "anonymously"
        if not found:
            return [
                Diagnostic(
                    area, "warning", f'{connection.where}, {who}: nothing below "{settings.base}" can be seen', f"correct `{key}.base`"
                )
            ]
        return [Diagnostic(area, "ok", f"{connection.where} answers, {who}")]


def _by_hand(settings: LdapBind) -> str:
    """The same search with OpenLDAP's client, which asks for the password."""
    secure = " -ZZ" if settings.starttls and settings.url.lower().startswith("ldap://") else ""
    signed = f" -D {quote(settings.bind)} -W" if settings.bind else ""
    return f"ldapsearch -x -H {quote(settings.url)}{secure}{signed} -b {quote(settings.base)} -s base dn"
