"""Who issued a certificate: by name and signature, whatever look-alikes, renewed keys and circles are among the certificates."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from itertools import product

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.name import _ASN1Type
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from distributor.microsoft import collection
from distributor.pki import keypairs
from distributor.pki.certificate import Certificate, load
from distributor.pki.issuers import IssuerIndex, is_self_signed, issued, seems_issued
from distributor.pki.validation.path import IssuerStore, PathEnd, build_trust_store, find_issuers
from tests.authority import rsa_key
from tests.doubles.pki import CA, der, root
from tests.pki.hierarchy import old_ca
from tests.pki.pki import NOW, Made, key, known, make

PARTIES = [f"{name}{number}" for name, number in product("ABC", "12")]  # three names, each with two keys


def parsed(der: bytes) -> Certificate:
    found = load(der)
    assert isinstance(found, Certificate)
    return found


@dataclass(frozen=True)
class Known:
    """A CA certificate of a party by a party, as it was made."""

    subject: str
    issuer: str
    made: Made

    @property
    def cert(self) -> Certificate:
        return parsed(self.made.der)


@functools.cache
def by(issuer: str) -> Made:
    return make(issuer[0], own=issuer)


MAZE = [Known(subject, issuer, make(subject[0], by(issuer), own=subject)) for subject, issuer in product(PARTIES, PARTIES)]
PEOPLE = {party: make("Person", by(party), ca=False) for party in PARTIES}
some = st.lists(st.sampled_from(MAZE), max_size=14, unique_by=lambda one: one.made.der)


def true_issuers(issuer: str, among: list[Known]) -> list[bytes]:
    return [one.made.der for one in among if one.subject == issuer]


def leads_to_root(party: str, among: list[Known], seen: frozenset[str] = frozenset()) -> bool:
    """Whether a path of true issuers leads from what the party issued to a root."""
    certs = [one for one in among if one.subject == party]
    return any(one.issuer == party or (one.issuer not in seen and leads_to_root(one.issuer, among, seen | {party})) for one in certs)


@settings(deadline=None, max_examples=60)
@given(some)
def test_an_issuer_has_the_name_and_made_the_signature(among: list[Known]) -> None:
    index, store = IssuerIndex(one.cert for one in among), IssuerStore(build_trust_store([one.made.der for one in among], NOW))
    for one in among:
        wanted = true_issuers(one.issuer, among)
        assert [found.der for found in index.seeming_issuers(one.cert)] == wanted
        assert {found.der for found in store.issuers(one.cert)} <= set(wanted)
        assert is_self_signed(one.cert) == (one.subject == one.issuer)


@settings(deadline=None, max_examples=60)
@given(some, st.sampled_from(PARTIES))
def test_the_chain_in_a_file_has_true_issuers_only_and_never_repeats(among: list[Known], party: str) -> None:
    person = make("Person", by(party), ca=False, own="person")
    ders = [person.der, *(one.made.der for one in among)]
    for expected in (None, parsed(person.der).sha256):
        (found,) = keypairs.match_identities(ders, [key("person")], expected).identities
        assert len(set(found.chain)) == len(found.chain) <= keypairs.LONGEST_CHAIN
        above = {one.made.der: one for one in among}
        issuer = party
        for one in map(above.__getitem__, found.chain):
            assert one.subject == issuer
            issuer = one.issuer
        if not found.chain:
            assert true_issuers(party, among) == []


@settings(deadline=None, max_examples=60)
@given(some, st.permutations(PARTIES))
def test_a_path_and_a_collection_without_gap_are_the_same(among: list[Known], parties: list[str]) -> None:
    store = build_trust_store([one.made.der for one in among], NOW)
    for party in parties:
        graph = find_issuers(parsed(PEOPLE[party].der), IssuerStore(store))
        assert bool(graph.paths()) is leads_to_root(party, among)
        assert all(path[-1].subject == path[-1].issuer and graph.ends[path[-1].der] is PathEnd.ANCHOR for path in graph.paths())
    gaps = collection.find_gaps(known(*(one.made for one in among)), known(*(PEOPLE[party] for party in parties)))
    assert [gap.lacks == () for gap in gaps] == [leads_to_root(party, among) for party in parties]


def test_a_look_alike_gets_into_the_chain_neither_at_plan_nor_at_send() -> None:
    person, impostor = make("Person", by("A1"), ca=False, own="person"), make("A", own="A2")
    for expected in (None, parsed(person.der).sha256):
        (found,) = keypairs.match_identities([person.der, impostor.der], [key("person")], expected).identities
        assert found.chain == ()


def test_of_two_ways_up_the_shorter_one_goes_into_the_package_in_whatever_order_they_lie() -> None:
    real, evil = make("A", own="A1"), make("Evil", own="evil")
    person, cross = make("Person", real, ca=False, own="person"), make("A", evil, own="A1")
    for order in ([person, cross, evil, real], [person, real, evil, cross]):
        (found,) = keypairs.match_identities([each.der for each in order], [key("person")], None).identities
        assert found.chain == (real.der,)
    (found,) = keypairs.match_identities([person.der, cross.der, evil.der], [key("person")], None).identities
    assert found.chain == (cross.der, evil.der)


def below(issuer: CA, *, named: x509.Name | None = None, key_id: bytes | None = None) -> Certificate:
    """A certificate by the issuer, under whatever name and key identifier of it."""
    subject, valid = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Below")]), issuer.certificate
    builder = x509.CertificateBuilder(
        named or issuer.certificate.subject, subject, key("below").public_key(), 5, valid.not_valid_before_utc, valid.not_valid_after_utc
    ).add_extension(x509.AuthorityKeyIdentifier(key_id, None, None), critical=False)
    assert isinstance(issuer.key, rsa.RSAPrivateKey)
    return parsed(der(builder.sign(issuer.key, hashes.SHA256())))


def test_a_name_in_another_string_type_is_another_name() -> None:
    top = root("Root", rsa_key(60))
    printable = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Root", _ASN1Type.PrintableString)])
    cert = below(top, named=printable)
    assert cert.parsed.issuer == top.certificate.subject
    assert not seems_issued(parsed(top.der), cert)
    assert IssuerIndex([parsed(top.der)]).named(cert.issuer) == []


def test_another_key_identifier_stops_trust_and_not_the_order_of_a_file() -> None:
    top = root("Root", rsa_key(60))
    index = IssuerIndex([parsed(top.der)])
    own = parsed(top.der).key_id
    assert own
    for key_id, fits in ((b"another", False), (own, True), (None, True)):
        cert = below(top, key_id=key_id)
        assert [one.der for one in index.seeming_issuers(cert)] == [top.der]
        assert bool(index.candidates(cert)) is fits


def test_a_signature_that_nobody_can_verify_seems_right_and_proves_nothing() -> None:
    made = MAZE[1]
    ecdsa = bytes.fromhex("06082a8648ce3d040302")  # with SHA-256
    assert made.made.der.count(ecdsa) == 2
    cert, issuer = parsed(made.made.der.replace(ecdsa, ecdsa[:-1] + b"\x09")), parsed(by(made.issuer).der)
    assert seems_issued(issuer, cert)
    assert not issued(issuer, cert)


def test_a_root_with_a_key_of_an_unknown_kind_does_not_stop_a_collection() -> None:
    """Its SHA-1 signature cannot be verified, so that it counts as a root."""
    good = root("Root", rsa_key(60))
    odd = old_ca(root("Odd", rsa_key(61))).der.replace(bytes.fromhex("06092a864886f70d010101"), bytes.fromhex("06092a864886f70d01017f"))
    assert parsed(odd).public_key is None
    assert is_self_signed(parsed(odd))
    assert {one.der for one in build_trust_store([odd, good.der], NOW).anchors} == {odd, good.der}
