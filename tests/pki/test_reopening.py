from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from hypothesis import given
from hypothesis import strategies as st

from distributor.model.certificates import FilePart, SourceMaterial
from distributor.model.limits import Limits
from distributor.model.secret import Secret
from distributor.pki import parse_material
from distributor.pki.pkcs12 import load_known_key
from tests.authority import Authority, Identity, rsa_key
from tests.identities import CAME_WITH, credential, material


@pytest.fixture(scope="module")
def alice(authority: Authority) -> Identity:
    return authority.issue("alice@example.org", name="Alice Example")


def forms(identity: Identity) -> Iterator[tuple[str, bytes]]:
    """The same identity as several programs pack it."""
    builder = ser.PrivateFormat.PKCS12.encryption_builder().kdf_rounds(2048)
    old = builder.key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC).hmac_hash(hashes.SHA1())  # noqa: S303  what old files have
    for name, how in {"aes": builder, "3des": old}.items():
        built = how.build(CAME_WITH.encode())
        yield name, pkcs12.serialize_key_and_certificates(b"x", identity.key, identity.certificate, identity.chain, built)


def holding(data: bytes, *passwords: str) -> SourceMaterial:
    return SourceMaterial("pkcs12", (FilePart("a.pfx", "/a.pfx", None, "00", data),), tuple(Secret(p) for p in passwords))


@pytest.mark.parametrize("form", ["aes", "3des"])
@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_the_short_cut_finds_what_the_long_way_finds(authority: Authority, form: str, kind: str) -> None:
    key = rsa_key() if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())
    identity = authority.issue("alice@example.org", key=key)
    data = dict(forms(identity))[form]
    (found,) = parse_material(holding(data, CAME_WITH), Limits(), expected_sha256=credential(identity).facts.sha256).identities
    quick = load_known_key(holding(data, "another", CAME_WITH), identity.der, found.chain)
    assert quick is not None
    assert found.chain == quick.chain
    assert found.leaf == quick.leaf.public_bytes(ser.Encoding.DER)
    assert quick.key.private_numbers() == identity.key.private_numbers()


def test_a_wrong_password_is_left_to_the_long_way(alice: Identity) -> None:
    assert load_known_key(material(alice, "another"), alice.der, ()) is None
    assert load_known_key(replace(material(alice), passwords=()), alice.der, ()) is None


def test_a_key_of_another_certificate_is_never_taken(authority: Authority, alice: Identity) -> None:
    bob = authority.issue("bob@example.org", key=rsa_key(2))
    assert load_known_key(material(bob), alice.der, ()) is None


def test_a_leaf_that_is_none_is_left_to_the_long_way(alice: Identity) -> None:
    assert load_known_key(material(alice), b"leaf", ()) is None


def test_pem_is_left_to_the_long_way(alice: Identity) -> None:
    part = FilePart("a.pem", "/a.pem", None, "00", alice.pem + alice.key_pem())
    assert load_known_key(SourceMaterial("pem", (part,), (Secret(""),)), alice.der, ()) is None


@given(cut=st.integers(0, 3000), flip=st.integers(0, 255))
def test_damaged_bytes_are_left_to_the_long_way(authority: Authority, cut: int, flip: int) -> None:
    data = _whole(authority)
    changed = bytearray(data)
    changed[cut % len(data)] ^= flip
    for damaged in (data[:cut], bytes(changed)):
        found = load_known_key(holding(damaged, CAME_WITH), _alice(authority).der, ())
        assert found is None or found.key.public_key() == _alice(authority).key.public_key()


_MADE: dict[int, tuple[Identity, bytes]] = {}


def _alice(authority: Authority) -> Identity:
    _whole(authority)
    return _MADE[id(authority)][0]


def _whole(authority: Authority) -> bytes:
    if id(authority) not in _MADE:
        identity = authority.issue("alice@example.org", key=ec.generate_private_key(ec.SECP256R1()))
        _MADE[id(authority)] = identity, identity.pfx(CAME_WITH)
    return _MADE[id(authority)][1]
