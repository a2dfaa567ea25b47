from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from asn1crypto import pkcs12 as asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import pkcs12

from distributor.model.people import Address, Person
from distributor.model.secret import Secret
from distributor.pki import package
from tests import conformance, oldphone
from tests.authority import Authority, Identity, rsa_key
from tests.identities import credential
from tests.needs import require

PASSWORD = "abcde-fghjk-mnpqr-stuvw-xyzab"
NAME = "Alice Example 2026-11"
KEYS = {"rsa-2048": rsa_key, "rsa-4096": lambda: rsa_key(1, 4096), "ec-p256": lambda: ec.generate_private_key(ec.SECP256R1())}


@pytest.fixture(scope="module")
def alice(authority: Authority) -> Identity:
    return authority.issue("alice@example.org", name="Alice Example")


def made(identity: Identity, profile: str = "phone", password: str = PASSWORD, *, include_root: bool = False) -> bytes:
    return package.build(credential(identity), Secret(password), profile, NAME, include_root=include_root)


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("profile", ["phone", "modern"])
def test_a_package_is_exactly_as_its_profile_says(authority: Authority, profile: str, kind: str) -> None:
    identity = authority.issue("alice@example.org", name="Alice Example", key=KEYS[kind]())
    assert conformance.faults(made(identity, profile), profile, PASSWORD) == []


@pytest.mark.parametrize("profile", ["phone", "modern"])
def test_one_wrong_message_in_the_password_fails_the_mac(alice: Identity, profile: str) -> None:
    pfx = asn1.Pfx.load(made(alice, profile), strict=True)
    assert conformance.mac_of(pfx, PASSWORD) == pfx["mac_data"]["mac"]["digest"].native
    assert conformance.mac_of(pfx, "b" + PASSWORD[1:]) != pfx["mac_data"]["mac"]["digest"].native


@pytest.mark.parametrize("profile", ["phone", "modern"])
def test_no_salt_is_used_twice_in_a_file_or_in_two(alice: Identity, profile: str) -> None:
    salts = conformance.salts(made(alice, profile)) + conformance.salts(made(alice, profile))
    assert len(salts) == len(set(salts)) == {"phone": 6, "modern": 10}[profile]


def test_leaf_and_intermediates_go_in_and_the_root_by_choice(alice: Identity) -> None:
    issuer, root = (c.public_bytes(ser.Encoding.DER) for c in alice.chain)
    assert [alice.der, issuer] == certificates(made(alice))
    assert [alice.der, issuer, root] == certificates(made(alice, include_root=True))


def certificates(der: bytes) -> list[bytes]:
    return [bag.content for bag in oldphone.install(der, PASSWORD) if bag.kind == "certificate"]


def test_a_package_comes_back_whole_through_the_library_that_made_it(alice: Identity) -> None:
    back = pkcs12.load_pkcs12(made(alice), PASSWORD.encode())
    assert back.cert is not None
    assert NAME.encode() == back.cert.friendly_name
    assert alice.certificate == back.cert.certificate
    assert [alice.chain[0]] == [c.certificate for c in back.additional_certs]
    assert isinstance(back.key, type(alice.key))
    assert back.key.public_key() == alice.key.public_key()


def test_an_old_phone_opens_phone_and_calls_modern_a_wrong_password(alice: Identity) -> None:
    kinds = [bag.kind for bag in oldphone.install(made(alice), PASSWORD)]
    assert kinds == ["certificate", "certificate", "key"]
    with pytest.raises(oldphone.WrongPasswordError):
        oldphone.install(made(alice, "modern"), PASSWORD)
    with pytest.raises(oldphone.WrongPasswordError):
        oldphone.install(made(alice), PASSWORD.upper())


def test_a_file_of_the_library_s_own_choice_is_not_for_phones(alice: Identity) -> None:
    best = pkcs12.serialize_key_and_certificates(
        NAME.encode(), alice.key, alice.certificate, alice.chain[:1], ser.BestAvailableEncryption(PASSWORD.encode())
    )
    assert "the profile's MAC" in conformance.faults(best, "phone", PASSWORD)
    assert "the profile's encryption, twice" in conformance.faults(best, "phone", PASSWORD)


def test_half_a_profile_is_caught(alice: Identity) -> None:
    builder = ser.PrivateFormat.PKCS12.encryption_builder().kdf_rounds(2048)
    half = builder.key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC).build(PASSWORD.encode())
    der = pkcs12.serialize_key_and_certificates(NAME.encode(), alice.key, alice.certificate, alice.chain[:1], half)
    assert conformance.faults(der, "phone", PASSWORD) == ["the profile's MAC"]


def test_an_openssl_legacy_file_with_rc2_fails_both_profiles(alice: Identity, tmp_path: Path) -> None:
    openssl = require("openssl")
    files = ["-inkey", "key.pem", "-in", "leaf.pem", "-out", "rc2.pfx"]
    (tmp_path / "key.pem").write_bytes(alice.key_pem())
    (tmp_path / "leaf.pem").write_bytes(alice.pem)
    subprocess.run(
        [openssl, "pkcs12", "-export", "-legacy", *files, "-passout", f"pass:{PASSWORD}"],
        cwd=tmp_path,
        check=True,
    )
    der = (tmp_path / "rc2.pfx").read_bytes()
    assert any("encryption" in fault for fault in conformance.faults(der, "phone", PASSWORD))
    assert any("encryption" in fault for fault in conformance.faults(der, "modern", PASSWORD))


def test_a_file_without_a_mac_fails(alice: Identity) -> None:
    pfx = asn1.Pfx.load(made(alice), strict=True)
    bare = asn1.Pfx({"version": pfx["version"], "auth_safe": pfx["auth_safe"]}).dump(force=True)
    assert conformance.faults(bare, "phone", PASSWORD) == ["a MAC"]


def test_a_file_with_two_keys_fails(authority: Authority, alice: Identity) -> None:
    bob = authority.issue("bob@example.org", key=rsa_key(2))
    safes = [list(asn1.Pfx.load(made(who), strict=True).authenticated_safe) for who in (alice, bob)]
    keys = [bag for safe in safes for bag in asn1.SafeContents.load(safe[1]["content"].native)]
    both = asn1.AuthenticatedSafe([safes[0][0], {"content_type": "data", "content": asn1.SafeContents(keys).dump()}]).dump()
    assert "the profile's encryption, twice" in conformance.faults(resealed(alice, both), "phone", PASSWORD)


def resealed(identity: Identity, safe: bytes) -> bytes:
    """A package with other contents and a MAC that is right for them."""
    pfx = asn1.Pfx.load(made(identity), strict=True)
    pfx["auth_safe"] = {"content_type": "data", "content": safe}
    again = asn1.Pfx.load(pfx.dump(force=True))
    again["mac_data"]["mac"]["digest"] = conformance.mac_of(again, PASSWORD)
    return again.dump(force=True)


def test_a_key_that_no_phone_knows_is_refused(alice: Identity) -> None:
    strange = ed25519.Ed25519PrivateKey.generate()
    other = replace(alice, key=strange)  # type: ignore[arg-type]  # the wrong kind on purpose
    with pytest.raises(ValueError, match="RSA and EC"):
        package.build(credential(other), Secret(PASSWORD), "phone", NAME)


def test_a_credential_without_its_key_is_refused(alice: Identity) -> None:
    with pytest.raises(ValueError, match="private key is missing"):
        package.build(replace(credential(alice), key=None), Secret(PASSWORD), "phone", NAME)


def test_a_key_of_somebody_else_is_refused(authority: Authority, alice: Identity) -> None:
    bob = credential(authority.issue("bob@example.org", key=rsa_key(2)))
    with pytest.raises(ValueError, match="do not match"):
        package.build(replace(credential(alice), key=bob.key), Secret(PASSWORD), "phone", NAME)


def test_neither_password_nor_profile_is_optional(alice: Identity) -> None:
    with pytest.raises(ValueError, match="1 or more bytes"):
        package.build(credential(alice), Secret(""), "phone", NAME)
    with pytest.raises(KeyError):
        package.build(credential(alice), Secret(PASSWORD), "none", NAME)


ISSUED = datetime(2026, 11, 24, tzinfo=UTC)
SERIAL = "4f2a90c1d7"


def person(name: str, language: str = "en", local: str = "alice") -> Person:
    return Person(Address(local, "example.org"), name, language)


@pytest.mark.parametrize(
    ("name", "language", "shown"),
    [
        ("Alice Example", "en", "Alice Example"),
        ("Jürgen Müßig", "de-AT", "Juergen Muessig"),
        ("José Nuñez", "es", "Jose Nunez"),
        ("Jürgen Müller", "fr", "Jurgen Muller"),
        ("Jean-François L\u2019Œuvre", "fr", "Jean-Francois LOeuvre"),
        ("Søren Ångström", "en", "Soren Angstrom"),
        ("Łukasz Żółć", "en", "Lukasz Zolc"),
        ("Siobhán O'Brien", "en", "Siobhan OBrien"),
        ("  -=Evil/../Name; \u202e", "en", "Evil Name"),
        ("山田太郎", "en", "alice"),
        ("Ωmega Half", "en", "alice"),
        ("", "en", "alice"),
        ("x" * 500, "en", "x" * 64),
    ],
)
def test_names_are_written_in_ascii_or_taken_from_the_address(name: str, language: str, shown: str) -> None:
    assert f"{shown} 2026-11" == package.friendly_name(person(name, language), ISSUED)
    assert f"{shown} SMIME 2026 4f2a90c1.pfx" == package.file_name(person(name, language), ISSUED, SERIAL)
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._-]*", package.file_name(person(name, language), ISSUED, SERIAL))


def test_two_certificates_of_a_person_are_told_apart_by_what_they_are_for(authority: Authority) -> None:
    both, signing = authority.issue("alice@example.org"), authority.issue("alice@example.org", usage=("digital_signature",))
    encryption = authority.issue("alice@example.org", usage=("key_encipherment",))
    assert [package.only_use(one.certificate) for one in (both, signing, encryption)] == ["", "signing", "encryption"]
    assert package.friendly_name(person("Alice Example", "en"), ISSUED, "signing") == "Alice Example 2026-11 signing"
    assert (
        package.file_name(person("Alice Example", "en"), ISSUED, SERIAL, "encryption") == "Alice Example SMIME encryption 2026 4f2a90c1.pfx"
    )


def test_an_address_that_cannot_be_written_either_leaves_a_plain_word() -> None:
    assert package.file_name(person("", local="山田"), ISSUED, SERIAL) == "Certificate SMIME 2026 4f2a90c1.pfx"


def test_the_digest_of_a_profile_is_what_it_says() -> None:
    assert isinstance(package.PROFILES["phone"].digest, hashes.SHA1)
    assert isinstance(package.PROFILES["modern"].digest, hashes.SHA256)
