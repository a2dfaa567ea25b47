"""Certificates that are odd in one part: what matters is read from them, and their signature is checked over what was signed."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from asn1crypto import pkcs12 as asn1_pkcs12
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given
from hypothesis import strategies as st

from distributor.model.certificates import CertificateInfo, FilePart, ParsedIdentities, ParseProblem, SourceMaterial
from distributor.model.limits import Limits
from distributor.model.people import Address
from distributor.model.secret import Secret
from distributor.pki import asn1, package, parse_material
from distributor.pki.certificate import Certificate, load
from distributor.pki.issuers import SignatureStatus, signature
from distributor.pki.lenient import readable_copy
from distributor.pki.validation import ChainValidator
from distributor.pki.validation.path import build_trust_store
from tests import conformance
from tests.authority import Authority, Identity

PASSWORD = "abcde-fghjk-mnpqr-stuvw-xyzab"
NOT_BEFORE, NOT_AFTER = datetime(2026, 1, 1, 9, 30, tzinfo=UTC), datetime(2051, 6, 1, tzinfo=UTC)
ALICE = b"\x81\x11alice@example.org"
Change = Callable[[list[bytes]], None]  # of the fields of what is signed, in DER


def reissued(der: bytes, key: rsa.RSAPrivateKey, *changes: Change) -> bytes:
    """A certificate with other octets in what is signed, signed again."""
    signed, algorithm, _ = asn1.read(der).sequence(3)
    fields = [field.whole for field in signed.sequence(6)]
    for change in changes:
        change(fields)
    tbs = asn1.wrap(asn1.SEQUENCE, *fields)
    bits = key.sign(tbs, padding.PKCS1v15(), hashes.SHA256())
    return asn1.wrap(asn1.SEQUENCE, tbs, algorithm.whole, asn1.wrap(0x03, b"\0", bits))


def name(tag: int, text: bytes) -> bytes:
    """A Name with one CN in this string type."""
    attribute = asn1.wrap(asn1.SEQUENCE, asn1.wrap(asn1.OID, b"\x55\x04\x03"), asn1.wrap(tag, text))
    return asn1.wrap(asn1.SEQUENCE, asn1.wrap(asn1.SET, attribute))


def field(number: int, der: bytes) -> Change:
    return lambda fields: fields.__setitem__(number, der)


def extension(oid: str, content: bytes, *, critical: bytes = b"") -> Change:
    """Replace an extension, or add it; `critical`: the content of the boolean."""

    def change(fields: list[bytes]) -> None:
        whole = asn1.wrap(asn1.OID, bytes.fromhex(oid))
        flag = [asn1.wrap(0x01, critical)] if critical else []
        old = [one.whole for one in asn1.read(asn1.read(fields[7]).content).sequence(0) if whole not in one.whole]
        new = asn1.wrap(asn1.SEQUENCE, whole, *flag, asn1.wrap(asn1.OCTETS, content))
        fields[7] = asn1.wrap(0xA3, asn1.wrap(asn1.SEQUENCE, *old, new))

    return change


def names(*beside: bytes) -> Change:
    return extension("551d11", asn1.wrap(asn1.SEQUENCE, *beside, ALICE))


def times(tag: int, begin: bytes) -> Change:
    return field(4, asn1.wrap(asn1.SEQUENCE, asn1.wrap(tag, begin), asn1.wrap(0x18, b"20510601000000Z")))


KINDS: dict[str, tuple[Change, ...]] = {
    "t61 in latin-1": (field(5, name(0x14, "Zoë Müller".encode("latin-1"))),),
    "t61 in utf-8": (field(5, name(0x14, "Zoë Müller".encode())),),
    "ia5 in latin-1": (field(5, name(0x16, "Zoë Müller".encode("latin-1"))),),
    "printable with other characters": (field(5, name(0x13, b"alice@example.org & co_")),),
    "time with offset": (times(0x17, b"260101113000+0200"),),
    "time without seconds": (times(0x17, b"2601010930Z"),),
    "long time without seconds": (times(0x18, b"202601010930Z"),),
    "long time with offset": (times(0x18, b"202601011130+0200"),),
    "time with fraction": (times(0x18, b"20260101093000.5Z"),),
    "x400Address beside": (names(bytes.fromhex("a3023000")),),
    "ediPartyName beside": (names(bytes.fromhex("a506a1040c024544")),),
    "unknown kind of name beside": (names(b"\x8a\x03abc"),),
    "ip address of five octets beside": (names(b"\x87\x05abcde"),),
    "dns name in latin-1 beside": (names(b"\x82\x05m\xfcnch"),),
    "mail address in latin-1 beside": (names(b"\x81\x0fz\xf6e@example.org"),),
    "boolean of 1": (extension("551d13", bytes.fromhex("3003010101").replace(b"\1\1\1", b"\1\1\0"), critical=b"\1"),),
    "damaged extension that decides nothing": (extension("551d20", b"\x30\x05"),),
}


@pytest.fixture(scope="module")
def alice(authority: Authority) -> Identity:
    return authority.issue("alice@example.org", name="Alice Example")


def odd(authority: Authority, alice: Identity, kind: str) -> bytes:
    return reissued(alice.der, authority.issuer_key, times(0x17, b"260101093000Z"), *KINDS[kind])  # type: ignore[arg-type]  # an RSA key


@pytest.fixture(scope="module")
def issuer(authority: Authority) -> Certificate:
    found = load(authority.issuer.public_bytes(ser.Encoding.DER))
    assert isinstance(found, Certificate)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_what_matters_is_read(authority: Authority, alice: Identity, issuer: Certificate, kind: str) -> None:
    der = odd(authority, alice, kind)
    found = load(der)
    assert isinstance(found, Certificate)
    info = found.info
    assert isinstance(info, CertificateInfo)
    assert "alice@example.org" in info.addresses
    assert (info.not_before.replace(microsecond=0), info.not_after) == (NOT_BEFORE, NOT_AFTER)
    assert (info.key, info.usages, info.is_ca) == ("rsa-2048", ("sign", "encrypt"), False)
    assert info.sha256 == hashlib.sha256(der).hexdigest()
    assert signature(found, issuer) is SignatureStatus.GOOD


@pytest.mark.parametrize("kind", KINDS)
def test_a_forged_signature_is_found(authority: Authority, alice: Identity, issuer: Certificate, kind: str) -> None:
    der = odd(authority, alice, kind)
    at = der.index(b"example.org")
    forged = load(der[:at] + b"exbmple.org" + der[at + 11 :])
    assert isinstance(forged, Certificate)
    assert signature(forged, issuer) is SignatureStatus.WRONG


def opened(alice: Identity, *ders: bytes) -> ParsedIdentities:
    data = alice.key_pem() + b"".join(ser_pem(der) for der in ders)
    return parse_material(SourceMaterial("pem", (FilePart("a.pem", "/in/a.pem", None, "00", data),)), Limits())


def ser_pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


@pytest.mark.parametrize("profile", ["phone", "modern"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_package_has_the_very_certificate(authority: Authority, alice: Identity, kind: str, profile: str) -> None:
    der = odd(authority, alice, kind)
    (found,) = opened(alice, der, *(one.public_bytes(ser.Encoding.DER) for one in alice.chain)).identities
    key = Secret(base64.b64encode(alice.key.private_bytes(ser.Encoding.DER, ser.PrivateFormat.PKCS8, ser.NoEncryption())).decode())
    content = package.content(type(found)(found.facts, found.leaf, found.chain, key))
    assert package.check_package(content, found.facts.sha256, Address("alice", "example.org"), NOT_BEFORE + timedelta(days=1)) is None
    data = package.build_pkcs12(content, Secret(PASSWORD), profile, "Alice Example")
    assert conformance.mac_of(pfx := asn1_pkcs12.Pfx.load(data, strict=True), PASSWORD) == pfx["mac_data"]["mac"]["digest"].native
    again = parse_material(SourceMaterial("pkcs12", (FilePart("a", "/a", None, "00", data),), (Secret(PASSWORD),)), Limits())
    assert again.problems == ()
    assert [(der, 1)] == [(one.leaf, len(one.chain)) for one in again.identities]


def test_an_authority_with_an_odd_name_signs(authority: Authority, alice: Identity) -> None:
    odd_name = name(0x14, "Müller CA".encode("latin-1"))
    above = reissued(authority.issuer.public_bytes(ser.Encoding.DER), authority.root_key, field(5, odd_name))  # type: ignore[arg-type]
    leaf = reissued(alice.der, authority.issuer_key, field(3, odd_name))  # type: ignore[arg-type]
    root = authority.root.public_bytes(ser.Encoding.DER)
    (found,) = opened(alice, leaf, root, above).identities
    assert (leaf, (above, root)) == (found.leaf, found.chain)
    assert found.facts.issuer == "CN=Müller CA"
    validator = ChainValidator(build_trust_store([root], authority.now), None, authority.now)
    assert validator.validate(leaf, [above]).issues == []


def test_a_certificate_that_cannot_be_read_is_the_only_finding(alice: Identity, authority: Authority) -> None:
    der = reissued(alice.der, authority.issuer_key, field(4, asn1.wrap(asn1.SEQUENCE, asn1.wrap(0x17, b"soon"), asn1.wrap(0x17, b"later"))))  # type: ignore[arg-type]
    found = opened(alice, der)
    assert [problem.check for problem in found.problems] == ["unreadable"]


def test_an_extension_that_is_there_twice_is_refused_all_the_same(authority: Authority, alice: Identity) -> None:
    def twice(fields: list[bytes]) -> None:
        parts = [one.whole for one in asn1.read(asn1.read(fields[7]).content).sequence(0)]
        fields[7] = asn1.wrap(0xA3, asn1.wrap(asn1.SEQUENCE, *parts, parts[0]))

    found = load(reissued(alice.der, authority.issuer_key, field(5, name(0x13, b"a@b")), twice))  # type: ignore[arg-type]
    assert isinstance(found, ParseProblem) or isinstance(found.info, ParseProblem)


def test_a_damaged_critical_extension_is_not_left_out(authority: Authority, alice: Identity) -> None:
    change = extension("551d1e", b"\x30\x05", critical=b"\xff")  # name constraints
    found = load(reissued(alice.der, authority.issuer_key, change))  # type: ignore[arg-type]
    assert isinstance(found, ParseProblem) or isinstance(found.info, ParseProblem)


def test_two_different_signature_algorithms_are_refused(alice: Identity) -> None:
    signed, _, bits = asn1.read(alice.der).sequence(3)
    other = asn1.wrap(asn1.SEQUENCE, asn1.wrap(asn1.OID, bytes.fromhex("2a864886f70d01010c")), asn1.wrap(asn1.NULL))
    with pytest.raises(ValueError, match="two signature algorithms"):
        readable_copy(asn1.wrap(asn1.SEQUENCE, signed.whole, other, bits.whole))


@pytest.mark.parametrize(
    "change",
    [
        field(5, name(0x0C, b"Zo\xeb")),
        field(5, name(0x1E, b"abc")),
        times(0x17, b"260101113000+9999"),
        extension("2a0304", b"\x05\x00", critical=b"\xff\xff"),
    ],
    ids=["utf8 in latin-1", "half a character", "no time zone", "a boolean of two octets"],
)
def test_what_other_programs_do_not_open_is_not_read_either(authority: Authority, alice: Identity, change: Change) -> None:
    der = reissued(alice.der, authority.issuer_key, change)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"."):
        readable_copy(der)


def test_a_wrapper_that_is_not_der_would_have_another_hash_and_is_refused(alice: Identity) -> None:
    signed, algorithm, bits = asn1.read(alice.der).sequence(3)
    content = signed.whole + algorithm.whole + bits.whole
    with pytest.raises(ValueError, match="not DER"):
        readable_copy(b"\x30\x84" + len(content).to_bytes(4, "big") + content)
    with pytest.raises(ValueError, match="more parts"):
        readable_copy(asn1.wrap(asn1.SEQUENCE, content, asn1.wrap(asn1.NULL)))


def test_the_copy_of_an_ordinary_certificate_says_the_same(alice: Identity) -> None:
    copy = x509.load_der_x509_certificate(readable_copy(alice.der))
    assert copy.subject == alice.certificate.subject
    assert copy.not_valid_after_utc == alice.certificate.not_valid_after_utc
    assert list(copy.extensions) == list(alice.certificate.extensions)


@given(st.data())
def test_whatever_the_octets_nothing_else_is_raised(data: st.DataObject) -> None:
    der = bytearray(Authority().issue("alice@example.org").der if not SAMPLE else SAMPLE[0])
    SAMPLE[:] = SAMPLE or [bytes(der)]
    for _ in range(data.draw(st.integers(1, 4))):
        der[data.draw(st.integers(0, len(der) - 1))] = data.draw(st.integers(0, 255))
    found = load(bytes(der))
    if isinstance(found, Certificate):
        assert isinstance(found.info, CertificateInfo | ParseProblem)


SAMPLE: list[bytes] = []


@pytest.mark.parametrize("moment", [b"20260101093000", b"2026010109Z", b"tomorrow", b"20261301093000Z"])
def test_dates_that_nobody_reads_are_told_in_plain_words(authority: Authority, alice: Identity, moment: bytes) -> None:
    found = load(reissued(alice.der, authority.issuer_key, times(0x18, moment)))  # type: ignore[arg-type]  # an RSA key
    assert isinstance(found, ParseProblem)
    assert found.message == "cannot read a certificate in the file (its dates are not written as X.509 requires)"
