"""What a directory answered to a phone's question -> whether others can encrypt to our people by it, and what has to change.

What Outlook asks is not published (facts: exchange.md 1.4): a host without a base, nobody signed in, `mail` as the filter.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from distributor.model.issues import CheckId, Diagnostic
from distributor.model.people import escape_unsafe, key_of
from distributor.pki import encrypting

SUCCESS, SIZE_LIMIT, NO_SUCH_OBJECT = 0, 4, 32  # result codes of LDAP
STRONGER_AUTH, INAPPROPRIATE_AUTH, UNWILLING = 8, 48, 53
SHOWN = 3  # people named in a remark
_SIGNING = "only certificates that nobody can encrypt to"
_PUBLISH = "run `distributor publish`, or write it there by hand"
_READ = "let everybody read it: slapd `access to attrs=entry,objectClass,mail,userCertificate by * read`"
_OPEN = (
    "slapd lets nobody in who has not signed in: remove `require authc` and `disallow bind_anon` (cn=config: olcRequires, olcDisallows), "
    "or let a small slapd beside it answer, with nothing but the public data in it"
)
_BASE = 'slapd.conf: `defaultsearchbase "{base}"` before the first database; cn=config: `olcDefaultSearchBase: {base}` in the frontend'
_CATALOG = "Active Directory answers without a base on its global catalog only: ldaps://HOST:3269"
_ANONYMOUS = (
    "Active Directory answers nobody in particular unless dsHeuristics has a 2 in the seventh place; a small slapd beside it is safer"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A way to the server, and why it cannot be gone (nothing where it can)."""

    url: str
    secure: bool
    failed: str = ""
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class LookupResult:
    """What came back for one address: in how many entries, with which certificates, by which base."""

    address: str
    base: str
    entries: int
    values: tuple[bytes, ...]
    plainly: bool = False  # only when `;binary` was left out
    code: int = SUCCESS
    said: str = ""


@dataclass(frozen=True, slots=True)
class LdapProbe:
    """Everything that a server was asked."""

    ways: tuple[Endpoint, ...]
    contexts: tuple[str, ...] = ()
    active: bool = False  # Microsoft's Active Directory
    answers: tuple[LookupResult, ...] = ()
    greeted: str = ""  # what the server has against a sign-in as nobody; "" where it allows it


@dataclass(frozen=True, slots=True)
class EncryptionVerdict:
    """Whether others can encrypt to a person. `level` as in a Remark."""

    address: str
    level: str
    message: str


def verdicts(looked: LdapProbe, delivered: Mapping[str, bytes], now: datetime) -> list[EncryptionVerdict]:
    """A word about each person; `delivered` has the certificate on the phone, by address, where we know it."""
    return [EncryptionVerdict(answer.address, *_verdict(answer, delivered.get(key_of(answer.address)), now)) for answer in looked.answers]


def _verdict(answer: LookupResult, delivered: bytes | None, now: datetime) -> tuple[str, str]:  # noqa: PLR0911  a line a case
    if answer.code not in {SUCCESS, SIZE_LIMIT, NO_SUCH_OBJECT}:
        return "error", f"the server refuses: {answer.said}"
    if not answer.entries:
        return "error", "nobody with this address is found"
    if not answer.values:
        return "error", "no certificate that anybody may read"
    if (useless := _useless(answer, now)) is not None:
        return "error", useless
    if delivered is not None and delivered not in answer.values:
        return "error", "another certificate than the one that was delivered"
    if delivered is not None and (wrong := encrypting.unusable_reason(delivered, now)) is not None:
        return "error", "the certificate that was delivered " + ("has expired" if wrong[0] is CheckId.EXPIRED else "is of no use to others")
    if answer.base:
        return "error", "found with a base only"
    if answer.plainly:
        return "warning", "found only without ;binary"
    return ("ok", "found") if answer.entries == 1 else ("warning", "several entries have this address")


def _useless(answer: LookupResult, now: datetime) -> str | None:
    """Why nobody can encrypt with anything that was found; what comes closest to a good one counts."""
    checks = {_wrong(value, answer.address, now) for value in answer.values}
    if None in checks:
        return None
    if checks & {CheckId.KEY_USAGE, CheckId.NOT_FOR_MAIL}:
        return _SIGNING
    return (
        "only certificates of somebody else"
        if CheckId.ADDRESS_MISMATCH in checks
        else "only certificates that are expired or cannot be read"
    )


def _wrong(value: bytes, address: str, now: datetime) -> CheckId | None:
    match encrypting.unusable_reason(value, now):
        case None:
            return None if encrypting.is_of(value, address) else CheckId.ADDRESS_MISMATCH
        case (check, _):
            return check


def remarks(looked: LdapProbe, told: Iterable[EncryptionVerdict]) -> Iterator[Diagnostic]:
    """What has to change, the server's part first."""
    yield from _of_ways(looked.ways)
    if not any(not way.failed for way in looked.ways):
        return
    if looked.greeted and not looked.active:
        told_of = f"the server refuses to be greeted by nobody, as a phone may do before it asks: {looked.greeted}"
        yield Diagnostic("sign-in", "error", told_of, _OPEN)
    found = [answer for answer in looked.answers if answer.base]
    if found:
        hint = _CATALOG if looked.active else _BASE.format(base=found[0].base)
        yield Diagnostic("base", "error", "the server answers nothing where no base is named, and Outlook cannot name one", hint)
    wrong: dict[tuple[str, str], list[str]] = {}
    for verdict in told:
        if verdict.level != "ok":
            wrong.setdefault((verdict.level, verdict.message), []).append(verdict.address)
    for (level, message), addresses in wrong.items():
        if message != "found with a base only":
            yield Diagnostic("people", level, f"{message}: {_named(addresses)}", _hint(message, looked))


def _of_ways(ways: tuple[Endpoint, ...]) -> Iterator[Diagnostic]:
    good = [way for way in ways if not way.failed]
    for way in ways:
        if way.failed:
            yield Diagnostic("connection", "warning" if good else "error", f"{way.url}: {way.failed}", way.hint)
        else:
            yield Diagnostic("connection", "ok", f"{way.url}: answers" + ("" if way.secure else ", in clear"))
    if good and not any(way.secure for way in good):
        hint = "set up ldaps:// with a certificate that phones trust: Microsoft asks for TLS in one text, and for nothing in another"
        yield Diagnostic("connection", "warning", "everybody on the way can change what is answered", hint)


_OTHER_HINTS = {
    _SIGNING: f"have one issued that allows encryption (key usage keyEncipherment, emailProtection) and send it; then {_PUBLISH}",
    "found only without ;binary": "a client that asks for userCertificate;binary, as RFC 4523 has it, finds nothing",
}


def _hint(message: str, looked: LdapProbe) -> str:
    if message.startswith("the server refuses"):
        return _ANONYMOUS if looked.active else _OPEN if any(map(_wants_sign_in, looked.answers)) else _READ
    if message.startswith("no certificate"):
        return f"{_PUBLISH}; {_READ}"
    if message.startswith("nobody"):
        return f"create the entry, or correct its mail attribute; {_READ}"
    if message.startswith("several"):
        return "let only one entry have the address: a phone may take the other one"
    return _OTHER_HINTS.get(message, _PUBLISH)


def _wants_sign_in(answer: LookupResult) -> bool:
    return answer.code in {STRONGER_AUTH, INAPPROPRIATE_AUTH} or (answer.code == UNWILLING and "authentication" in answer.said)


def _named(addresses: list[str]) -> str:
    shown = ", ".join(escape_unsafe(address) for address in addresses[:SHOWN])
    return shown + (f" and {len(addresses) - SHOWN} more" if len(addresses) > SHOWN else "")
