"""A key's kind is what its algorithm and parameters say, not what its numbers look like; its hash tells key pairs apart."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa, x448, x25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from distributor.model.certificates import FilePart, ParsedIdentities, SourceMaterial
from distributor.model.limits import Limits
from distributor.model.secret import Secret
from distributor.pki import parse_material, spki
from distributor.pki.asn1 import OID, wrap
from tests.authority import Authority, rsa_key
from tests.needs import require
from tests.pki.spkis import NULL, info, oid, reissued

RSA, EC = "1.2.840.113549.1.1.1", "1.2.840.10045.2.1"
P256 = oid("1.2.840.10045.3.1.7")


@functools.cache
def curve(kind: type[ec.EllipticCurve]) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(kind())


PLAIN = {
    "rsa-2048": rsa_key,
    "rsa-3072": lambda: rsa_key(0, 3072),
    "ec-p256": lambda: curve(ec.SECP256R1),
    "ec-p384": lambda: curve(ec.SECP384R1),
    "ec-p521": lambda: curve(ec.SECP521R1),
    "ec-secp256k1": lambda: curve(ec.SECP256K1),
    "ec-brainpoolP256r1": lambda: curve(ec.BrainpoolP256R1),
    "dsa": lambda: dsa.generate_private_key(1024),  # noqa: S505  quickly made, and refused anyway
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
    "x25519": x25519.X25519PrivateKey.generate,
    "x448": x448.X448PrivateKey.generate,
}
GOOD = {"rsa-2048", "rsa-3072", "ec-p256", "ec-p384", "ec-p521"}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_keys(name: str) -> None:
    public = PLAIN[name]().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert spki.key_type(public) == name
    assert spki.is_installed(name) == (name in GOOD)


@pytest.mark.parametrize(
    ("algorithm", "parameters", "expected"),
    [
        (RSA, (NULL,), "rsa-2048"),
        (RSA, (), "rsa-2048"),
        (RSA, (wrap(OID, b"\x2a\x03"),), "rsaencryption-with-parameters"),
        (RSA, (NULL, NULL), "rsaencryption-with-parameters"),
        ("1.2.840.113549.1.1.10", (), "rsassa-pss"),
        ("1.2.840.113549.1.1.10", (wrap(0x30),), "rsassa-pss"),
        ("1.2.840.113549.1.1.7", (), "rsaes-oaep"),
        ("1.3.6.1.4.1.99999.1", (NULL,), "1.3.6.1.4.1.99999.1"),
    ],
)
def test_the_numbers_of_an_rsa_key_do_not_decide(algorithm: str, parameters: tuple[bytes, ...], expected: str) -> None:
    assert spki.key_type(info(rsa_key(), algorithm, *parameters)) == expected


@pytest.mark.parametrize(
    ("algorithm", "parameters", "expected"),
    [
        (EC, (P256,), "ec-p256"),
        (EC, (wrap(0x30, P256),), "ec-explicit"),
        (EC, (NULL,), "ec-explicit"),
        (EC, (), "ec-explicit"),
        (EC, (oid("1.3.132.0.34"),), "ec-compressed"),  # a point that is too short for its curve
        (EC, (oid("1.3.132.0.999"),), "ec-1.3.132.0.999"),
        ("1.3.132.1.12", (P256,), "ecdh"),
    ],
)
def test_the_numbers_of_an_elliptic_key_do_not_decide(algorithm: str, parameters: tuple[bytes, ...], expected: str) -> None:
    assert spki.key_type(info(curve(ec.SECP256R1), algorithm, *parameters)) == expected


def test_a_compressed_point_is_told() -> None:
    point = curve(ec.SECP256R1).public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    made = wrap(0x30, wrap(0x30, oid(EC), P256), wrap(0x03, b"\0", point))
    assert spki.key_type(made) == "ec-compressed"


def test_the_hash_is_of_the_key_and_not_of_the_certificate(authority: Authority) -> None:
    one = authority.issue("alice@example.org")
    again, other = authority.issue("bob@example.org", key=one.key), authority.issue("bob@example.org")
    assert spki.sha256_of(one.der) == spki.sha256_of(again.der) != spki.sha256_of(other.der)
    bare = reissued(one, authority, info(one.key, RSA))
    assert bare != one.der
    assert spki.sha256_of(bare) == spki.sha256_of(one.der)


@pytest.mark.parametrize("data", [b"", b"anna first....", b"\x30\x00", b"\x30\x82\xff\xff", b"\x30\x06\x30\x00\x30\x00\x30\x00"], ids=repr)
def test_what_is_no_certificate_has_no_key(data: bytes) -> None:
    assert spki.sha256_of(data) is None


KEYS = {
    "pss": (("-algorithm", "RSA-PSS"), "key is for RSASSA-PSS"),
    "explicit": (
        ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"),
        "explicit curve parameters",
    ),
    "sm2": (("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:SM2"), "ec-sm2"),
    "binary": (("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:sect233r1"), "ec-1.3.132.0.27"),
}


@pytest.mark.parametrize("form", ["pkcs12", "pem"])
@pytest.mark.parametrize("name", KEYS)
def test_what_openssl_makes_is_refused_for_its_kind_and_nothing_else(tmp_path: Path, name: str, form: str) -> None:
    arguments, words = KEYS[name]
    openssl = require("openssl")
    key, certificate, pfx = tmp_path / "a.key", tmp_path / "a.crt", tmp_path / "a.pfx"
    run = functools.partial(subprocess.run, check=True, capture_output=True, timeout=60)
    run([openssl, "genpkey", *arguments, "-out", key])
    names = ("-addext", "subjectAltName=email:a@example.org", "-addext", "basicConstraints=critical,CA:FALSE")
    run([openssl, "req", "-x509", "-new", "-key", key, "-subj", "/CN=A", *names, "-days", "300", "-out", certificate])
    run([openssl, "pkcs12", "-export", "-inkey", key, "-in", certificate, "-passout", "pass:in", "-out", pfx])
    data = pfx.read_bytes() if form == "pkcs12" else certificate.read_bytes() + key.read_bytes()
    opened = parse_material(SourceMaterial(form, (FilePart("a", "/a", None, "0", data),), (Secret("in"),)), Limits())
    assert _told(opened) == ["key-type"], opened
    assert words in (opened.problems[0].message if opened.problems else words)


def _told(opened: ParsedIdentities) -> list[str]:
    """The problem, or what preflight makes of the key."""
    if opened.problems:
        return [str(problem.check) for problem in opened.problems]
    return ["ready" if spki.is_installed(identity.facts.key) else "key-type" for identity in opened.identities]


def test_the_library_agrees_about_sizes() -> None:
    for bits in (1024, 2048):
        key = rsa_key(77, bits)
        assert isinstance(key, rsa.RSAPrivateKey)
        assert spki.key_type(info(key, RSA, NULL)) == f"rsa-{key.key_size}"
