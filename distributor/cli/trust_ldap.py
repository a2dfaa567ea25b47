"""`distributor trust ldap`: whether a phone would find our people's certificates on a server, and what to change there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json
from distributor.errors import Misuse, Unavailable, Unusable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from distributor.microsoft.ldap_lookup import Looked, Verdict
    from distributor.model.issues import Remark

EXAMPLE = "\b\nexample:\n  distributor trust ldap ldaps://ldap.example.org alice@example.org"
MOST_ROWS = 20  # of people shown; --json has all


def ldap(
    host: Annotated[str, typer.Argument(metavar="HOST", help="As Outlook's settings have it: HOST, HOST:PORT or ldaps://HOST[:PORT].")],
    addresses: Annotated[
        list[str] | None, typer.Argument(metavar="ADDRESS", help="Whom to look for; default: everybody who received a certificate.")
    ] = None,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Ask a directory as Outlook on a phone may: nobody signed in, no base, by mail address.

    Says whether others can encrypt to our people by it, and what to change in slapd or Active Directory. Changes nothing.
    """
    from distributor import bootstrap
    from distributor.microsoft import ldap_lookup

    place = _place(host)
    named = [bootstrap.address_key(address) for address in addresses or ()]
    delivered = _delivered(chosen, required=not named)
    looked: Looked = bootstrap.adapter("directories", "ldap").probe(place, named or list(delivered))
    told = ldap_lookup.verdicts(looked, delivered, bootstrap.now())
    remarks = list(ldap_lookup.remarks(looked, told))
    _show(place, looked, told, remarks, as_json=as_json)
    if all(way.failed for way in looked.ways):
        raise Unavailable("no way to it works", where=place, hint="check the name; `ldapsearch -x -H URL -b ''` asks the same")
    return 1 if any(remark.level == "error" for remark in remarks) else 0


def _place(host: str) -> str:
    from distributor.microsoft import outlook

    try:
        return outlook.host(host)
    except outlook.BadHost as fault:
        raise Misuse(str(fault), where="HOST", hint="write HOST, HOST:PORT or ldaps://HOST[:PORT]") from None


def _delivered(chosen: Path | None, *, required: bool) -> dict[str, bytes]:
    """Everybody's newest certificate, by address; where people are named, a workspace is not needed."""
    from distributor import bootstrap
    from distributor.model.people import key_of
    from distributor.workflows.publish import choose

    try:
        settings = bootstrap.settings(chosen)
    except Unusable:
        if required or chosen is not None:
            raise
        return {}
    now = bootstrap.now()
    found: dict[str, bytes] = {}
    with bootstrap.reading(settings) as ledger:
        for holder in ledger.holders():
            held, _ = choose(holder, now)
            if held is not None:
                found[key_of(holder.address)] = held.leaf
    return found


def _show(place: str, looked: Looked, told: Sequence[Verdict], remarks: Sequence[Remark], *, as_json: bool) -> None:
    from distributor.cli.render import answer, counted, say, table, tell

    good = sum(verdict.level == "ok" for verdict in told)
    if as_json:
        ways = [{"url": way.url, "works": not way.failed, "secure": way.secure, "said": way.failed or None} for way in looked.ways]
        people = [{"address": one.address, "level": one.level, "message": one.message} for one in told]
        rows = [{"area": one.area, "level": one.level, "message": one.message, "hint": one.hint} for one in remarks]
        answer("trust-ldap", {"host": place, "found": good, "ways": ways, "people": people, "remarks": rows})
        return
    table(("address", "", "what a phone gets"), ((one.address, one.level, one.message) for one in told[:MOST_ROWS]))
    if len(told) > MOST_ROWS:
        tell(f"... and {len(told) - MOST_ROWS} more: --json has all")
    for remark in remarks:
        _tell_remark(remark)
    if told:
        say(f"others can encrypt to {good} of {counted(len(told), 'person', 'people')}")
    elif any(not way.failed for way in looked.ways):  # else nobody could be looked for, which is said next
        say("nobody was looked for: name an ADDRESS")


def _tell_remark(remark: Remark) -> None:
    from distributor.cli.render import GREEN, RED, YELLOW, coloured, foreign, tell, wrapped

    colour = {"error": RED, "warning": YELLOW}.get(remark.level, GREEN)
    tell(f"{coloured(f'{remark.level:<7}', colour)}  {wrapped(foreign(remark.message), 9)}")
    if remark.hint:
        tell(wrapped(f"         {foreign(remark.hint)}", 9))
