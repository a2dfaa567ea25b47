"""Hostile, damaged and mixed-up PFX files: what is refused, and with which word."""

from __future__ import annotations

import hashlib
import hmac
from base64 import encodebytes
from collections.abc import Callable
from pathlib import Path

import pytest
from asn1crypto import pkcs12 as asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.serialization import pkcs12
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distributor.model.issues import CheckId
from distributor.model.limits import Limits
from distributor.pki import pbe
from distributor.pki.asn1 import SEQUENCE, wrap
from distributor.pki.pbe import EncodedPassword
from tests.authority import Authority, Identity, rsa_key
from tests.pfx import PASSWORD, checks, mac_again, only, opened, refused, together
from tests.pfx_writer import SHROUDED, bag, encrypted, private_key, shrouded, whole


def test_a_wrong_password_is_told_as_such(alice: Identity, made: Callable[..., bytes]) -> None:
    assert refused(alice.pfx(), "wrong") == CheckId.WRONG_PASSWORD
    assert refused(alice.pfx(), "wrong", "Wrong") == CheckId.WRONG_PASSWORD
    assert refused(alice.pfx()) == CheckId.WRONG_PASSWORD
    assert refused(made("-legacy"), "wrong") == CheckId.WRONG_PASSWORD


def test_a_file_without_mac_is_refused_with_the_way_to_convert(made: Callable[..., bytes]) -> None:
    (problem,) = opened(made("-nomac"), PASSWORD).problems
    assert problem.check == CheckId.NO_MAC
    assert "openssl pkcs12 -export" in str(problem.hint)


def test_pem_under_the_name_of_a_pfx_is_told_as_such(alice: Identity) -> None:
    (problem,) = opened(alice.pem + alice.key_pem(), PASSWORD).problems
    assert (problem.check, problem.message) == (CheckId.UNREADABLE, "the file is PEM, not PKCS#12")
    assert ".pem" in str(problem.hint)


@pytest.mark.parametrize(
    "damage", [lambda text: text[:-300] + text[-30:], lambda text: text.replace(b"MII", b"!!!"), lambda text: text[:900]]
)
def test_a_damaged_pfx_in_pem_is_not_said_to_be_something_else(alice: Identity, damage: Callable[[bytes], bytes]) -> None:
    armoured = b"-----BEGIN PKCS12-----\n" + encodebytes(alice.pfx()) + b"-----END PKCS12-----\n"
    (problem,) = opened(damage(armoured), PASSWORD).problems
    assert (problem.check, problem.message) == (CheckId.UNREADABLE, "the file is damaged or not a PKCS#12 file")


def test_the_iterations_of_each_derivation_are_limited(alice: Identity) -> None:
    data = alice.pfx(rounds=50_000)
    (problem,) = opened(data, PASSWORD, limits=Limits(iterations=49_999)).problems
    assert problem.check == CheckId.TOO_COSTLY
    assert "50000" in problem.message
    assert "limits.iterations" in str(problem.hint)
    assert opened(data, PASSWORD, limits=Limits(iterations=50_000)).identities  # the sum of all three does not count


def test_the_time_of_all_derivations_together_is_limited(alice: Identity) -> None:
    data = together([alice.pfx(rounds=50_000)] * 4)  # eight derivations of about 0.0125 s each
    (problem,) = opened(data, PASSWORD, limits=Limits(open_seconds=0.09)).problems
    assert problem.check == CheckId.TOO_COSTLY
    assert "limits.open_seconds" in str(problem.hint)
    assert opened(data, PASSWORD, limits=Limits(open_seconds=0.12)).identities


def test_a_thousand_costly_parts_are_refused_before_any_is_decrypted(alice: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    data = together([only(alice.pfx(rounds=100_000), "encrypted_data")] * 1000)
    for derives in ("pbkdf2", "pkcs12_key"):
        monkeypatch.setattr(pbe, derives, lambda *_: pytest.fail("a key was derived"))
    (problem,) = opened(data, PASSWORD).problems
    assert (problem.check, problem.message) == (CheckId.TOO_COSTLY, "opening it takes about 26 s, 10 s are allowed")


def test_keys_that_are_hidden_in_an_encrypted_part_are_counted_too(alice: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    word = EncodedPassword.of(PASSWORD)
    key = bag(SHROUDED, shrouded(private_key(alice), word.utf8, rounds=2_000_000))
    data = whole([encrypted(wrap(SEQUENCE, *[key] * 30), word.utf8)], word)
    monkeypatch.setattr("distributor.pki.pkcs12._key", lambda *_: pytest.fail("a key was decrypted"))
    assert refused(data, PASSWORD) == CheckId.TOO_COSTLY


def test_what_asks_for_too_much_is_refused_before_any_of_it_is_done(alice: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    pfx = asn1.Pfx.load(alice.pfx())
    pfx["mac_data"]["iterations"] = 2**31 - 1
    for derives in ("pbkdf2", "pkcs12_key"):
        monkeypatch.setattr(pbe, derives, lambda *_: pytest.fail("a key was derived"))
    assert refused(pfx.dump(force=True), PASSWORD) == CheckId.TOO_COSTLY


@pytest.mark.parametrize(
    ("iterations", "check"),
    [(2**31 - 1, CheckId.TOO_COSTLY), (5_000_000, CheckId.TOO_COSTLY), (0, CheckId.UNREADABLE), (-5, CheckId.UNREADABLE)],
)
def test_a_mac_cannot_ask_for_more_than_the_limit_or_less_than_one(alice: Identity, iterations: int, check: CheckId) -> None:
    pfx = asn1.Pfx.load(alice.pfx())
    pfx["mac_data"]["iterations"] = iterations
    assert refused(pfx.dump(force=True), PASSWORD) == check


def test_an_unknown_scheme_is_refused_with_the_way_to_convert(alice: Identity) -> None:
    pbkdf2, scrypt = bytes.fromhex("2a864886f70d01050c"), bytes.fromhex("2b06010401da47040b")
    content = bytes(asn1.Pfx.load(alice.pfx())["auth_safe"]["content"].native)
    (problem,) = opened(mac_again(content.replace(pbkdf2, scrypt)), PASSWORD).problems
    assert problem.check == CheckId.UNREADABLE
    assert "1.3.6.1.4.1.11591.4.11" in problem.message
    assert "openssl pkcs12" in str(problem.hint)


@pytest.mark.parametrize("change", ["digest", "content"])
def test_a_changed_file_does_not_pass_its_mac(alice: Identity, change: str) -> None:
    data = bytearray(alice.pfx())
    data[-60 if change == "digest" else 900] ^= 1
    assert refused(bytes(data), PASSWORD) in {CheckId.WRONG_PASSWORD, CheckId.UNREADABLE}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"\x30\x80\0\0",
        b"\x30\x03\x02\x01\x03",
        b"\x30\x84\xff\xff\xff\xff",
        b"\x30\x80" * 1000,
        b"-----BEGIN CERTIFICATE-----\n",
    ],
    ids=repr,
)
def test_garbage_is_unreadable(data: bytes) -> None:
    assert refused(data, PASSWORD) == CheckId.UNREADABLE


def test_truncated_and_trailing_octets_are_unreadable(alice: Identity) -> None:
    data = alice.pfx()
    for wrong in (data[:-1], data[:100], data[: len(data) // 2], data + b"\0", data + data):
        assert refused(wrong, PASSWORD) == CheckId.UNREADABLE


def test_a_key_of_another_certificate_is_a_mismatch(authority: Authority, alice: Identity) -> None:
    other = authority.issue("bob@example.org", key=rsa_key(1))
    assert refused(together([only(alice.pfx(), "encrypted_data"), only(other.pfx(), "data")]), PASSWORD) == CheckId.KEY_MISMATCH


def test_a_key_too_many_is_a_mismatch_and_the_good_identity_stays(authority: Authority, alice: Identity) -> None:
    other = authority.issue("bob@example.org", key=rsa_key(1))
    result = opened(together([alice.pfx(), only(other.pfx(), "data")]), PASSWORD)
    assert [c.leaf for c in result.identities] == [alice.der]
    assert checks(result) == [CheckId.KEY_MISMATCH]


def test_certificates_without_a_key_are_told(alice: Identity) -> None:
    assert refused(only(alice.pfx(), "encrypted_data"), PASSWORD) == CheckId.NO_KEY
    assert refused(only(alice.pfx(), "data"), PASSWORD) == CheckId.KEY_MISMATCH


def test_numbers_that_do_not_fit_are_a_mismatch(alice: Identity) -> None:
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415

    assert isinstance(alice.key, rsa.RSAPrivateKey)
    n = alice.key.private_numbers()
    wrong = rsa.RSAPrivateNumbers(n.p, n.q, n.d, n.dmp1 + 2, n.dmq1, n.iqmp, n.public_numbers).private_key(
        unsafe_skip_rsa_key_validation=True
    )
    der = wrong.private_bytes(ser.Encoding.DER, ser.PrivateFormat.PKCS8, ser.NoEncryption())
    key_bag = {"bag_id": "key_bag", "bag_value": asn1.PrivateKeyInfo.load(der)}
    certificate = {"cert_id": "x509", "cert_value": asn1.Certificate.load(alice.der)}
    bags = asn1.SafeContents([key_bag, {"bag_id": "cert_bag", "bag_value": certificate}]).dump()
    data = mac_again(asn1.AuthenticatedSafe([{"content_type": "data", "content": bags}]).dump())
    assert refused(data, PASSWORD) == CheckId.KEY_MISMATCH


def test_a_chain_that_goes_in_a_circle_ends(authority: Authority, alice: Identity) -> None:
    first = authority.issue(name="Example Mail CA", ca=True)
    data = alice.pfx()
    again = ser.PrivateFormat.PKCS12.encryption_builder().build(PASSWORD.encode())
    chain = [authority.issuer, first.certificate, authority.root, authority.issuer, alice.certificate]
    circular = pkcs12.serialize_key_and_certificates(b"x", alice.key, alice.certificate, chain, again)
    assert len(opened(circular, PASSWORD).identities[0].chain) == 2
    assert len(opened(data, PASSWORD).identities[0].chain) == 2


def test_too_many_certificates_are_too_costly(alice: Identity) -> None:
    again = ser.PrivateFormat.PKCS12.encryption_builder().build(PASSWORD.encode())
    crowded = pkcs12.serialize_key_and_certificates(b"x", alice.key, alice.certificate, [alice.chain[0]] * 100, again)
    assert refused(crowded, PASSWORD) == CheckId.TOO_COSTLY


def test_a_friendly_name_of_the_wrong_type_does_no_harm(alice: Identity) -> None:
    name = bytes.fromhex("06092a864886f70d010914")
    data = alice.pfx(name="zz")
    pfx = asn1.Pfx.load(data)
    safe = bytes(pfx["auth_safe"]["content"].native)
    at = safe.rfind(name) + len(name)
    assert safe[at : at + 2] == b"\x31\x06"  # a set of one BMPString of four octets
    wrong = safe[: at + 2] + b"\x01" + safe[at + 3 :]  # now a BOOLEAN of four octets
    assert len(opened(mac_again(wrong), PASSWORD).identities) == 1


def test_pbmac1_is_read_or_refused_but_never_passed_unread(alice: Identity) -> None:
    salt, rounds = b"0123456789abcdef", 2048
    pfx = asn1.Pfx.load(alice.pfx())
    content = bytes(pfx["auth_safe"]["content"].native)
    key = hashlib.pbkdf2_hmac("sha256", PASSWORD.encode(), salt, rounds, 32)
    prf = wrap(0x30, bytes.fromhex("06082a864886f70d0209"), b"\x05\0")
    kdf = wrap(0x30, bytes.fromhex("06092a864886f70d01050c"), wrap(0x30, wrap(4, salt), b"\x02\x02\x08\x00", b"\x02\x01\x20", prf))
    algorithm = wrap(0x30, bytes.fromhex("06092a864886f70d01050e"), wrap(0x30, kdf, prf))
    for digest, works in ((hmac.digest(key, content, "sha256"), True), (b"\0" * 32, False)):
        mac = wrap(0x30, wrap(0x30, algorithm, wrap(4, digest)), wrap(4, b"unused"), b"\x02\x01\x01")
        result = opened(wrap(0x30, b"\x02\x01\x03", pfx["auth_safe"].dump(), mac), PASSWORD)
        assert bool(result.identities) is works
        assert checks(result) == ([] if works else [CheckId.WRONG_PASSWORD])


def test_few_passwords_are_tried_on_a_costly_file(alice: Identity) -> None:
    assert refused(alice.pfx(), *(f"wrong {n}" for n in range(50)), limits=Limits(iterations=10_000)) == CheckId.WRONG_PASSWORD


@pytest.fixture(scope="module")
def good(alice: Identity) -> bytes:
    how = (
        ser.PrivateFormat.PKCS12.encryption_builder()
        .kdf_rounds(1)
        .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
        .hmac_hash(hashes.SHA1())  # noqa: S303
        .build(PASSWORD.encode())
    )
    return pkcs12.serialize_key_and_certificates(b"x", alice.key, alice.certificate, alice.chain, how)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=4))
def test_no_mutation_of_a_file_raises(good: bytes, changes: list[tuple[int, int]]) -> None:
    data = bytearray(good)
    for at, octet in changes:
        data[at % len(data)] = octet
    result = opened(bytes(data), PASSWORD, limits=Limits(iterations=100_000))
    assert bool(result.problems) or bytes(data) == good or result.identities


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=3))
def test_no_mutation_below_a_good_mac_raises(good: bytes, changes: list[tuple[int, int]]) -> None:
    content = bytearray(asn1.Pfx.load(good)["auth_safe"]["content"].native)
    for at, octet in changes:
        content[at % len(content)] = octet
    result = opened(mac_again(bytes(content)), PASSWORD, limits=Limits(iterations=100_000))
    assert result.problems or result.identities


def test_the_public_vectors_raise_nothing() -> None:
    vectors = pytest.importorskip("cryptography_vectors")
    seen = set()
    for path in sorted((Path(vectors.__file__).parent / "pkcs12").rglob("*.p12")):
        result = opened(path.read_bytes(), "cryptography", "ascii", "password", "1234", "")
        seen.add(bool(result.identities))
        assert result.identities or result.problems
    assert seen == {True, False}


@pytest.mark.parametrize(("octets", "sign"), [(400, ""), (2000, ""), (400, "-")])
def test_a_huge_number_of_iterations_is_not_printed_in_full(alice: Identity, octets: int, sign: str) -> None:
    pfx = asn1.Pfx.load(alice.pfx())
    pfx["mac_data"]["iterations"] = int(f"{sign}1") << 8 * octets - 2
    (problem,) = opened(pfx.dump(force=True), PASSWORD).problems
    assert problem.check is (CheckId.UNREADABLE if sign else CheckId.TOO_COSTLY)
    assert "iterations" in problem.message
    assert len(problem.message) < 120


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        (b"\xfe\xed\xfe\xed" + bytes(400), "the file is a Java keystore (JKS), not PKCS#12", "keytool -importkeystore"),
        (b"\xce\xce\xce\xce" + bytes(400), "the file is a Java keystore (JCEKS), not PKCS#12", "keytool -importkeystore"),
        (b"\r\n<!DOCTYPE html><html></html>", "the file is a web page or XML, not PKCS#12", "download the file again"),
        (b"\xef\xbb\xbf<?xml version='1.0'?><error/>", "the file is a web page or XML, not PKCS#12", "download the file again"),
        (b"PK\x03\x04" + bytes(400), "the file is a zip archive, not PKCS#12", 'name must end in ".zip"'),
        (b"-----BEGIN OPENSSH PRIVATE KEY-----\n", "the file is PEM, not PKCS#12", '".pem"'),
    ],
    ids=["JKS", "JCEKS", "a web page", "XML", "a zip", "PEM"],
)
def test_what_is_another_kind_of_file_is_told_as_such(data: bytes, message: str, hint: str) -> None:
    (problem,) = opened(data, PASSWORD).problems
    assert (problem.check, problem.message) == (CheckId.UNREADABLE, message)
    assert hint in str(problem.hint)


@pytest.mark.parametrize("more", [b"\r\n", b"\0" * 16])
def test_octets_after_the_end_are_refused_and_told(alice: Identity, more: bytes) -> None:
    (problem,) = opened(alice.pfx() + more, PASSWORD).problems
    assert (problem.check, problem.message) == (CheckId.UNREADABLE, f"{len(more)} bytes follow the end of the PKCS#12 data in it")
