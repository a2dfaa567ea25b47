"""Asks an LDAP server for certificates as a phone does: anonymously, at the host of Outlook's settings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace

from distributor.clients.ldap import NO_SUCH_OBJECT, SUCCESS, LdapClient, LdapEndpoint, LdapEntry, LdapResult, escape
from distributor.errors import ServiceUnavailable
from distributor.microsoft.ldap_lookup import Endpoint, LdapProbe, LookupResult

TIMEOUT = 10  # seconds; nobody waits longer for a message to be sent
PORTS = {"ldaps": 636, "ldap": 389}
MOST_ENTRIES = 20  # for one address
MOST_CONTEXTS = 3  # searched where nothing is found without a base
ASKED = ("userCertificate;binary", "userSMIMECertificate;binary")
CERTIFICATE = "userCertificate"


def probe(host: str, addresses: Sequence[str]) -> LdapProbe:
    """Search at the first endpoint that works, and connect to the others; `host` was checked before (microsoft.outlook)."""
    tried: list[Endpoint] = []
    answered: LdapProbe | None = None
    for endpoint in endpoints(host):
        with closing(LdapClient(endpoint, seconds=TIMEOUT)) as client:
            try:
                root = client.root("namingContexts", "defaultNamingContext")
                active = client.active_directory()
                if answered is None:
                    contexts = _contexts(root)
                    answers = tuple(_answers(client, contexts, addresses))
                    no = client.anonymous_bind()
                    answered = LdapProbe((), contexts, active, answers, "" if no.code == SUCCESS else str(no))
                tried.append(Endpoint(client.where, endpoint.security == "tls"))
            except ServiceUnavailable as error:
                tried.append(Endpoint(client.where, endpoint.security == "tls", error.message, error.hint))
    return LdapProbe(tuple(tried)) if answered is None else replace(answered, ways=tuple(tried))


def endpoints(host: str) -> list[LdapEndpoint]:
    """Where a phone may connect; without a scheme both with TLS and without."""
    scheme, separator, rest = host.rpartition("://")
    name, _, port = rest.partition(":")
    kinds = [scheme.lower()] if separator else ["ldaps", "ldap"]
    return [LdapEndpoint(name, int(port) if port else PORTS[kind], "tls" if kind == "ldaps" else "none") for kind in kinds]


def _contexts(root: LdapEntry) -> tuple[str, ...]:
    """Naming contexts to search; Active Directory has others than that of people."""
    return tuple(root.texts("defaultNamingContext") or root.texts("namingContexts"))[:MOST_CONTEXTS]


def _answers(client: LdapClient, contexts: Sequence[str], addresses: Sequence[str]) -> Iterator[LookupResult]:
    for address in addresses:
        yield _answer(client, ("", *contexts), address)


def _answer(client: LdapClient, bases: Sequence[str], address: str) -> LookupResult:
    """The result from the first base that has any; else the server's refusal."""
    refusal: LdapResult | None = None
    for base in bases:
        found, no = _ask(client, base, address)
        if found is not None:
            return found
        if refusal is None or no.code not in {SUCCESS, NO_SUCH_OBJECT}:
            refusal = no
    return LookupResult(address, "", 0, (), code=refusal.code if refusal else SUCCESS, detail=str(refusal or ""))


def _ask(client: LdapClient, base: str, address: str) -> tuple[LookupResult | None, LdapResult]:
    """Ask for the attributes with `;binary` first, then by their plain names where that gives no certificate."""
    filter_ = f"(mail={escape(address)})"
    found, no = client.ask(base, filter_, ASKED, most=MOST_ENTRIES)
    if not found:
        return None, no
    values = _values(found)
    if values:
        return LookupResult(address, base, len(found), values), no
    plain, _ = client.ask(base, filter_, (CERTIFICATE,), most=MOST_ENTRIES)
    return LookupResult(address, base, len(found), _values(plain), plainly=True), no


def _values(found: Sequence[LdapEntry]) -> tuple[bytes, ...]:
    return tuple(value for entry in found for value in entry.all(CERTIFICATE))
