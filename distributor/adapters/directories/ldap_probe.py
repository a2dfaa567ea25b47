"""A host as Outlook's settings have it, and addresses -> what the server answers to nobody in particular, asked as a phone may ask."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from distributor.clients.ldap import NO_SUCH_OBJECT, SUCCESS, LdapClient, LdapEndpoint, LdapEntry, LdapResult, escape
from distributor.errors import ServiceUnavailable
from distributor.microsoft.ldap_lookup import Endpoint, LdapProbe, LookupResult

PATIENCE = 10  # seconds; nobody waits longer for a message to be sent
PORTS = {"ldaps": 636, "ldap": 389}
MOST_ENTRIES = 20  # for one address
MOST_CONTEXTS = 3  # that are tried where nothing is found without a base
ASKED = ("userCertificate;binary", "userSMIMECertificate;binary")
CERTIFICATE = "userCertificate"


def probe(host: str, addresses: Sequence[str]) -> LdapProbe:
    """Ask by the first way that works; `host` is checked already (core.outlook)."""
    tried: list[Endpoint] = []
    answered: LdapProbe | None = None
    for place in places(host):
        with closing(LdapClient(place, seconds=PATIENCE)) as line:
            try:
                root = line.root("namingContexts", "defaultNamingContext")
                active = line.active_directory()
                if answered is None:
                    contexts = _contexts(root)
                    answers = tuple(_answers(line, contexts, addresses))
                    no = line.anonymous_bind()
                    answered = LdapProbe((), contexts, active, answers, "" if no.code == SUCCESS else str(no))
                tried.append(Endpoint(line.where, place.security == "tls"))
            except ServiceUnavailable as error:
                tried.append(Endpoint(line.where, place.security == "tls", error.message, error.hint))
    return LdapProbe(tuple(tried)) if answered is None else replace(answered, ways=tuple(tried))


def places(host: str) -> list[LdapEndpoint]:
    """Where a phone may go; without a scheme, with TLS and without."""
    scheme, separator, rest = host.rpartition("://")
    name, _, port = rest.partition(":")
    kinds = [scheme.lower()] if separator else ["ldaps", "ldap"]
    return [LdapEndpoint(name, int(port) if port else PORTS[kind], "tls" if kind == "ldaps" else "none") for kind in kinds]


def _contexts(root: LdapEntry) -> tuple[str, ...]:
    """Where entries may be: Active Directory has more contexts than those of people."""
    return tuple(root.texts("defaultNamingContext") or root.texts("namingContexts"))[:MOST_CONTEXTS]


def _answers(line: LdapClient, contexts: Sequence[str], addresses: Sequence[str]) -> Iterator[LookupResult]:
    for address in addresses:
        yield _answer(line, ("", *contexts), address)


def _answer(line: LdapClient, bases: Sequence[str], address: str) -> LookupResult:
    """From the first base that brings anything; else with what the server has against the question."""
    against: LdapResult | None = None
    for base in bases:
        found, no = _ask(line, base, address)
        if found is not None:
            return found
        if against is None or no.code not in {SUCCESS, NO_SUCH_OBJECT}:
            against = no
    return LookupResult(address, "", 0, (), code=against.code if against else SUCCESS, said=str(against or ""))


def _ask(line: LdapClient, base: str, address: str) -> tuple[LookupResult | None, LdapResult]:
    """With `;binary` first, and where that brings no certificate, by the plain names."""
    wanted = f"(mail={escape(address)})"
    found, no = line.ask(base, wanted, ASKED, most=MOST_ENTRIES)
    if not found:
        return None, no
    values = _values(found)
    if values:
        return LookupResult(address, base, len(found), values), no
    plain, _ = line.ask(base, wanted, (CERTIFICATE,), most=MOST_ENTRIES)
    return LookupResult(address, base, len(found), _values(plain), plainly=True), no


def _values(found: Sequence[LdapEntry]) -> tuple[bytes, ...]:
    return tuple(value for entry in found for value in entry.all(CERTIFICATE))
