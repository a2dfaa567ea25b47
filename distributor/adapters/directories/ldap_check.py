"""A table that names a directory (LDAP) -> what `doctor` says of it: reached, signed in to, and its base is there. Nothing is written."""

from __future__ import annotations

from contextlib import closing
from shlex import quote

from distributor.clients import ldap as client
from distributor.clients.ldap import SignIn
from distributor.errors import Error
from distributor.microsoft.powershell import steps
from distributor.model.issues import Remark

_ANYTHING = "(objectClass=*)"


def examine(settings: SignIn, key: str, area: str) -> list[Remark]:
    """Asks for one entry below the base."""
    if (fault := client.check(settings, key)) is not None:
        return [Remark(area, "error", str(fault), fault.hint)]
    with closing(client.ldap(settings, key)) as line:
        try:
            found = line.find(settings.base, _ANYTHING, ("objectClass",), 1)
        except Error as error:
            return [
                Remark(area, "error", str(error), steps(f"{error.hint}; the same question without distributor:", (_by_hand(settings),)))
            ]
        who = f"signed in as {settings.bind}" if settings.bind else "anonymously"
        if not found:
            return [Remark(area, "warning", f'{line.where}, {who}: nothing below "{settings.base}" can be seen', f"correct `{key}.base`")]
        return [Remark(area, "ok", f"{line.where} answers, {who}")]


def _by_hand(settings: SignIn) -> str:
    """OpenLDAP's own client asks for the password."""
    secure = " -ZZ" if settings.starttls and settings.url.lower().startswith("ldap://") else ""
    signed = f" -D {quote(settings.bind)} -W" if settings.bind else ""
    return f"ldapsearch -x -H {quote(settings.url)}{secure}{signed} -b {quote(settings.base)} -s base dn"
