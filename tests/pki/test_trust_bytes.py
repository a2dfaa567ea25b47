"""What asn1crypto reads stays what was signed, whatever lengths its headers have."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from cryptography import x509

from distributor.pki.validation.validator import Asn1Certificate, Asn1Crl, RevocationMode, validate_path
from tests.authority import rsa_key
from tests.doubles.pki import CA, Extension, der, root
from tests.pki.hierarchy import LEAF, NOW, SUB, Hierarchy, hierarchy

AD = "ldap:///CN=Mail%20CA,CN=CDP,CN=Services,DC=example,DC=org?certificateRevocationList?base?objectClass=cRLDistributionPoint"
SIZES = range(1, 400)  # every remainder of 256 for each header, although longer lengths leap over some


def padding(size: int) -> list[Extension]:
    return [(x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"x" * size), False)]


def ends_in_0x80(data: bytes) -> bool:
    return data[3] == 0x80  # 30 82 xx 80: asn1crypto takes it for the sign of an indefinite length


TOP = root("Root", rsa_key(51))
CA_ = TOP.sub("Mail CA", rsa_key(50))


@pytest.mark.parametrize(
    ("crl", "aia"),
    [
        ([AD, "http://pki.example.org/ca.crl"], [AD, "http://pki.example.org/ca.cer"]),
        (["http://pki.example.org:80/ca.crl"], []),
        (["http://pki.example.org"], []),
        (["ldap://dc.example.org/CN=x?certificateRevocationList"], []),
    ],
    ids=["as AD CS writes them", "with the usual port", "without a path", "with a host"],
)
def test_a_certificate_of_any_length_is_judged_as_it_was_signed(crl: Sequence[str], aia: Sequence[str]) -> None:
    people = [CA_.person("a@example.org", rsa_key(1), crl=crl, aia=aia, serial=2**100, extensions=padding(size)) for size in SIZES]
    assert any(ends_in_0x80(one.der) for one in people)
    assert any(ends_in_0x80(one.certificate.tbs_certificate_bytes) for one in people)
    assert [validate_path(one.der, [TOP.der], [CA_.der], (), NOW, RevocationMode.PATH_ONLY) for one in people] == [None] * len(people)


def test_an_authority_of_such_a_length_spoils_nobody_below_it() -> None:
    made = [TOP.sub("Mail CA", rsa_key(50), crl=[AD, SUB], aia=[AD], serial=2**100, extensions=padding(size)) for size in SIZES]
    odd = [one for one in made if ends_in_0x80(one.der) or ends_in_0x80(one.certificate.tbs_certificate_bytes)]
    assert len(odd) > 1
    for sub in odd:
        chains = below(sub).chains()
        people = [sub.person(f"{n}@example.org", rsa_key(n), crl=LEAF) for n in range(3)]
        assert [chains.validate(one.der, [sub.der]).issues for one in people] == [[]] * 3


def below(sub: CA) -> Hierarchy:
    return hierarchy(TOP, sub, sub.person("a@example.org", rsa_key(1), crl=LEAF))


def test_what_was_read_is_dumped_as_it_came() -> None:
    person = CA_.person("a@example.org", rsa_key(1), crl=AD)
    for size in SIZES:
        data = der(CA_.person("a@example.org", rsa_key(1), crl=AD, extensions=padding(size)).certificate)
        read = Asn1Certificate.load(data, strict=True)
        assert read.native["tbs_certificate"]["extensions"]
        assert read.dump() == data
        assert read["tbs_certificate"].dump() == x509.load_der_x509_certificate(data).tbs_certificate_bytes
    for size in SIZES:
        data = CA_.crl(person.certificate.serial_number, extensions=padding(size))
        listed = Asn1Crl.load(data)
        assert listed["tbs_cert_list"]["revoked_certificates"].native
        assert listed.dump() == data
        assert listed["tbs_cert_list"].dump() == x509.load_der_x509_crl(data).tbs_certlist_bytes
