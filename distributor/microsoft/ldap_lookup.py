"""The results of a phone's LDAP lookup -> whether others can encrypt to our people with it, and what has to change.

Outlook's lookup is not published (facts: exchange.md 1.4): it has a host without a base, is anonymous, and filters by `mail`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from distributor.model.issues import CheckId, Diagnostic
from distributor.model.people import escape_unsafe, key_of
from distributor.pki.certificate import info
from distributor.pki.checks import encryption_fault, is_for

SUCCESS, SIZE_LIMIT, NO_SUCH_OBJECT = 0, 4, 32  # result codes of LDAP
STRONGER_AUTH, INAPPROPRIATE_AUTH, UNWILLING = 8, 48, 53
SHOWN = 3  # people named in a line
_SIGNING = "only certificates that cannot be used for encryption"
_PUBLISH = "run `distributor publish`, or add the certificate by hand"
_READ = "give everyone read access: slapd `access to attrs=entry,objectClass,mail,userCertificate by * read`"
_OPEN = (
    "slapd requires a login: remove `require authc` and `disallow bind_anon` (cn=config: olcRequires, olcDisallows), "
    "or run a separate slapd with only the public data"
)
_BASE = 'slapd.conf: `defaultsearchbase "{base}"` before the first database; cn=config: `olcDefaultSearchBase: {base}` in the frontend'
_CATALOG = "use Active Directory's global catalog, which responds without a base: ldaps://HOST:3269"
_ANONYMOUS = (
    "run a separate slapd with only the public data: Active Directory allows no anonymous search unless dsHeuristics has a 2 in 7th place"
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A URL of the server, and why it cannot be reached (empty: it can)."""

    url: str
    secure: bool
    failed: str = ""
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class LookupResult:
    """The result for one address: how many entries, which certificates, under which base."""

    address: str
    base: str
    entries: int
    values: tuple[bytes, ...]
    plainly: bool = False  # only when `;binary` was left out
    code: int = SUCCESS
    detail: str = ""


@dataclass(frozen=True, slots=True)
class LdapProbe:
    """The results of all lookups in one server."""

    ways: tuple[Endpoint, ...]
    contexts: tuple[str, ...] = ()
    active: bool = False  # Microsoft's Active Directory
    answers: tuple[LookupResult, ...] = ()
    greeted: str = ""  # why the server refuses an anonymous bind; "" where it allows it


@dataclass(frozen=True, slots=True)
class EncryptionVerdict:
    """Whether others can encrypt to a person. `level` as in a Remark."""

    address: str
    level: str
    message: str


def verdicts(looked: LdapProbe, delivered: Mapping[str, bytes], now: datetime) -> list[EncryptionVerdict]:
    """A verdict for each person; `delivered`: the certificate on the phone, by address, where it is known."""
    return [EncryptionVerdict(answer.address, *_verdict(answer, delivered.get(key_of(answer.address)), now)) for answer in looked.answers]


def _verdict(answer: LookupResult, delivered: bytes | None, now: datetime) -> tuple[str, str]:  # noqa: PLR0911  a line a case
    if answer.code not in {SUCCESS, SIZE_LIMIT, NO_SUCH_OBJECT}:
        return "error", f"the server refused: {answer.detail}"
    if not answer.entries:
        return "error", "no entry with this address"
    if not answer.values:
        return "error", "no certificate that can be read without a login"
    if (useless := _useless(answer, now)) is not None:
        return "error", useless
    if delivered is not None and delivered not in answer.values:
        return "error", "not the certificate that was delivered"
    if delivered is not None and (wrong := encryption_fault(info(delivered), now)) is not None:
        return "error", "the delivered certificate " + ("has expired" if wrong[0] is CheckId.EXPIRED else "cannot be used for encryption")
    if answer.base:
        return "error", "found only with a base"
    if answer.plainly:
        return "warning", "found only without ;binary"
    return ("ok", "found") if answer.entries == 1 else ("warning", "several entries have this address")


def _useless(answer: LookupResult, now: datetime) -> str | None:
    """Why none of the certificates can be used to encrypt, by the one that comes closest."""
    checks = {_wrong(value, answer.address, now) for value in answer.values}
    if None in checks:
        return None
    if checks & {CheckId.KEY_USAGE, CheckId.NOT_FOR_MAIL}:
        return _SIGNING
    return (
        "only certificates of someone else"
        if CheckId.ADDRESS_MISMATCH in checks
        else "only certificates that are expired or cannot be read"
    )


def _wrong(value: bytes, address: str, now: datetime) -> CheckId | None:
    if fault := encryption_fault(info(value), now):
        return fault[0]
    return None if is_for(info(value), address) else CheckId.ADDRESS_MISMATCH


def remarks(looked: LdapProbe, people: Iterable[EncryptionVerdict]) -> Iterator[Diagnostic]:
    """What has to change, first on the server."""
    yield from _of_endpoints(looked.ways)
    if not any(not way.failed for way in looked.ways):
        return
    if looked.greeted and not looked.active:
        text = f"the server refused an anonymous bind, which phones may try before a search: {looked.greeted}"
        yield Diagnostic("sign-in", "error", text, _OPEN)
    found = [answer for answer in looked.answers if answer.base]
    if found:
        hint = _CATALOG if looked.active else _BASE.format(base=found[0].base)
        yield Diagnostic("base", "error", "the server returns nothing without a search base, and Outlook cannot set one", hint)
    wrong: dict[tuple[str, str], list[str]] = {}
    for verdict in people:
        if verdict.level != "ok":
            wrong.setdefault((verdict.level, verdict.message), []).append(verdict.address)
    for (level, message), addresses in wrong.items():
        if message != "found only with a base":
            yield Diagnostic("people", level, f"{message}: {_named(addresses)}", _hint(message, looked))


def _of_endpoints(endpoints: tuple[Endpoint, ...]) -> Iterator[Diagnostic]:
    good = [one for one in endpoints if not one.failed]
    for one in endpoints:
        if one.failed:
            yield Diagnostic("connection", "warning" if good else "error", f"{one.url}: {one.failed}", one.hint)
        else:
            yield Diagnostic("connection", "ok", f"{one.url}: responds" + ("" if one.secure else ", unencrypted"))
    if good and not any(one.secure for one in good):
        hint = "set up ldaps:// with a certificate that phones trust"
        yield Diagnostic("connection", "warning", "unencrypted: anyone on the network path can change the response", hint)


_OTHER_HINTS = {
    _SIGNING: f"have a certificate issued that allows encryption (keyEncipherment, emailProtection) and send it; then {_PUBLISH}",
    "found only without ;binary": "add the ;binary option (RFC 4523): clients that ask for userCertificate;binary find nothing",
}


def _hint(message: str, looked: LdapProbe) -> str:
    if message.startswith("the server refused"):
        return _ANONYMOUS if looked.active else _OPEN if any(map(_wants_sign_in, looked.answers)) else _READ
    if message.startswith("no certificate"):
        return f"{_PUBLISH}; {_READ}"
    if message.startswith("no entry"):
        return f"create the entry, or correct its mail attribute; {_READ}"
    if message.startswith("several"):
        return "remove the address from the others: a phone may use the wrong entry"
    return _OTHER_HINTS.get(message, _PUBLISH)


def _wants_sign_in(answer: LookupResult) -> bool:
    return answer.code in {STRONGER_AUTH, INAPPROPRIATE_AUTH} or (answer.code == UNWILLING and "authentication" in answer.detail)


def _named(addresses: list[str]) -> str:
    shown = ", ".join(escape_unsafe(address) for address in addresses[:SHOWN])
    return shown + (f" and {len(addresses) - SHOWN} more" if len(addresses) > SHOWN else "")
