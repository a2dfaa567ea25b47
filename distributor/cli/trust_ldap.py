"""`distributor trust ldap`: checks whether a phone would find people's certificates on an LDAP server, and says what to change there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json
from distributor.cli.render import GREEN, RED, YELLOW, coloured, counted, escape, print_json, stderr_line, stdout_line, table, wrapped
from distributor.errors import InvalidInput, ServiceUnavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from distributor.microsoft.ldap_lookup import EncryptionVerdict, LdapProbe
    from distributor.model.issues import Diagnostic

EXAMPLE = "\b\nexample:\n  distributor trust ldap ldaps://ldap.example.org alice@example.org"
MOST_ROWS = 20  # of people shown; --json has all


def ldap(
    host: Annotated[str, typer.Argument(metavar="HOST", help="As in Outlook's settings: HOST, HOST:PORT or ldaps://HOST[:PORT].")],
    addresses: Annotated[
        list[str] | None, typer.Argument(metavar="ADDRESS", help="People to look up; default: everyone who received a certificate.")
    ] = None,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Look people up in a directory as Outlook on a phone does: anonymously, without a base, by mail address.

    Shows whether others can encrypt to them, and what to change in slapd or Active Directory. Changes nothing.
    """
    from distributor import bootstrap
    from distributor.bootstrap import trust
    from distributor.microsoft import ldap_lookup

    place = _place(host)
    named = [bootstrap.address_key(address) for address in addresses or ()]
    delivered = _delivered(chosen, required=not named)
    probe = trust.probe_ldap(place, named or list(delivered))
    verdicts = ldap_lookup.verdicts(probe, delivered, bootstrap.now())
    diagnostics = list(ldap_lookup.remarks(probe, verdicts))
    _show(place, probe, verdicts, diagnostics, as_json=as_json)
    if all(way.failed for way in probe.ways):
        raise ServiceUnavailable("cannot connect", where=place, hint="check the host name; to try it by hand: `ldapsearch -x -H URL -b ''`")
    return 1 if any(diagnostic.level == "error" for diagnostic in diagnostics) else 0


def _place(host: str) -> str:
    from distributor.microsoft import outlook

    try:
        return outlook.host(host)
    except outlook.BadHost as fault:
        raise UsageError(str(fault), where="HOST", hint="write HOST, HOST:PORT or ldaps://HOST[:PORT]") from None


def _delivered(chosen: Path | None, *, required: bool) -> dict[str, bytes]:
    """The newest certificate that each person received, by address. Only where it is `required` must there be a workspace."""
    from distributor import bootstrap
    from distributor.model.people import key_of
    from distributor.workflows.publish import choose

    try:
        settings = bootstrap.settings(chosen)
    except InvalidInput:
        if required or chosen is not None:
            raise
        return {}
    now = bootstrap.now()
    found: dict[str, bytes] = {}
    with bootstrap.open_for_reading(settings) as ledger:
        for holder in ledger.holders():
            held, _ = choose(holder, now)
            if held is not None:
                found[key_of(holder.address)] = held.leaf
    return found


def _show(place: str, probe: LdapProbe, verdicts: Sequence[EncryptionVerdict], diagnostics: Sequence[Diagnostic], *, as_json: bool) -> None:
    good = sum(verdict.level == "ok" for verdict in verdicts)
    if as_json:
        ways = [{"url": way.url, "works": not way.failed, "secure": way.secure, "said": way.failed or None} for way in probe.ways]
        people = [{"address": one.address, "level": one.level, "message": one.message} for one in verdicts]
        rows = [{"area": one.area, "level": one.level, "message": one.message, "hint": one.hint} for one in diagnostics]
        print_json("trust-ldap", {"host": place, "found": good, "ways": ways, "people": people, "remarks": rows})
        return
    table(("address", "", "what a phone gets"), ((one.address, one.level, one.message) for one in verdicts[:MOST_ROWS]))
    if len(verdicts) > MOST_ROWS:
        stdout_line(f"... and {len(verdicts) - MOST_ROWS} more: use --json to see all")
    for diagnostic in diagnostics:
        _show_diagnostic(diagnostic)
    if verdicts:
        stderr_line(f"others can encrypt to {good} of {counted(len(verdicts), 'person', 'people')}")
    elif any(not way.failed for way in probe.ways):  # where all failed, the error that follows says so
        stderr_line("no ADDRESS given, so nothing was searched")


def _show_diagnostic(diagnostic: Diagnostic) -> None:
    colour = {"error": RED, "warning": YELLOW}.get(diagnostic.level, GREEN)
    stdout_line(f"{coloured(f'{diagnostic.level:<7}', colour)}  {wrapped(escape(diagnostic.message), 9)}")
    if diagnostic.hint:
        stdout_line(wrapped(f"         {escape(diagnostic.hint)}", 9))
