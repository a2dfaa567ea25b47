"""PFX files of every make: they open."""

from __future__ import annotations

import codecs
import hashlib
import subprocess
from base64 import b64encode, encodebytes
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from distributor.model.issues import CheckId
from tests.authority import Authority, Identity, rsa_key
from tests.needs import require
from tests.pfx import PASSWORD, checks, only, opened, together


def test_a_modern_file_opens_with_its_chain_in_order(alice: Identity) -> None:
    (identity,) = opened(alice.pfx(), PASSWORD).identities
    assert identity.leaf == alice.der
    assert identity.chain == tuple(c.public_bytes(ser.Encoding.DER) for c in alice.chain)
    assert identity.facts.addresses == ("alice@example.org",)
    assert identity.key is None


def test_once_proven_one_of_many_wrong_passwords_that_decrypts_to_something_does_no_harm(alice: Identity) -> None:
    many = [f"wrong-{number}" for number in range(900)]  # one in 256 leaves a padding that looks right
    found = opened(alice.pfx(), *many, PASSWORD, expected_sha256=hashlib.sha256(alice.der).hexdigest())

    assert [c.leaf for c in found.identities] == [alice.der]


def test_once_proven_the_wanted_one_comes_with_its_key(alice: Identity) -> None:
    (identity,) = opened(alice.pfx(), "not this", PASSWORD, expected_sha256=hashlib.sha256(alice.der).hexdigest()).identities
    assert identity.key is not None
    import base64  # noqa: PLC0415

    key = ser.load_der_private_key(base64.b64decode(identity.key.reveal()), None)
    assert key.public_key() == alice.key.public_key()


@pytest.mark.parametrize(
    "options",
    [
        ("-legacy",),
        ("-legacy", "-certpbe", "PBE-SHA1-RC4-128", "-keypbe", "PBE-SHA1-RC2-40"),
        ("-certpbe", "PBE-SHA1-3DES", "-keypbe", "PBE-SHA1-3DES", "-macalg", "sha1"),
        ("-certpbe", "AES-128-CBC", "-keypbe", "PBE-SHA1-3DES"),
        ("-certpbe", "AES-256-CBC", "-keypbe", "AES-192-CBC", "-macalg", "sha512"),
        ("-certpbe", "camellia-256-cbc", "-keypbe", "AES-256-CBC"),
        ("-certpbe", "NONE", "-keypbe", "NONE"),
        ("-iter", "1", "-nomaciter"),
        ("-macalg", "sha384"),
    ],
    ids=" ".join,
)
def test_every_common_algorithm_opens(made: Callable[..., bytes], alice: Identity, options: tuple[str, ...]) -> None:
    data = made(*options)
    result = opened(data, PASSWORD)
    assert [c.leaf for c in result.identities] == [alice.der]
    again = opened(data, PASSWORD, expected_sha256=hashlib.sha256(alice.der).hexdigest())
    assert again.identities[0].key is not None


@pytest.mark.parametrize("options", [(), ("-legacy",), ("-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES")], ids=str)
def test_an_empty_password_needs_no_word(made: Callable[..., bytes], alice: Identity, options: tuple[str, ...]) -> None:
    data = made(*options, password="")
    for passwords in ((), ("",)):
        assert [c.leaf for c in opened(data, *passwords).identities] == [alice.der]
        assert opened(data, *passwords, expected_sha256=hashlib.sha256(alice.der).hexdigest()).identities[0].key is not None


def test_a_password_beyond_ascii_opens(alice: Identity) -> None:
    for password in ("Grüße-an-Zoë", "пароль-日本", "emoji-🔑"):
        assert len(opened(alice.pfx(password), password).identities) == 1


def test_what_thunderbird_and_firefox_write_opens(made: Callable[..., bytes], alice: Identity, tmp_path: Path) -> None:
    program = require("pk12util")
    database, source, target = tmp_path / "nss", tmp_path / "in.pfx", tmp_path / "out.p12"
    database.mkdir()
    source.write_bytes(made("-name", "alice"))
    for command in (
        [require("certutil"), "-N", "-d", str(database), "--empty-password"],
        [program, "-i", str(source), "-d", str(database), "-W", PASSWORD],
        [program, "-o", str(target), "-n", "alice", "-d", str(database), "-W", PASSWORD],
    ):
        subprocess.run(command, check=True, capture_output=True)
    data = target.read_bytes()
    assert data[1] == 0x80  # indefinite lengths: BER, not DER
    assert [c.leaf for c in opened(data, PASSWORD).identities] == [alice.der]
    assert checks(opened(data + b"\0\0", PASSWORD)) == [CheckId.UNREADABLE]


@pytest.mark.parametrize(
    "text",
    [
        lambda pfx: b"-----BEGIN PKCS12-----\n" + encodebytes(pfx) + b"-----END PKCS12-----\n",
        lambda pfx: b"Bag\r\n-----BEGIN PKCS12-----\r\n" + encodebytes(pfx).replace(b"\n", b"\r\n") + b"-----END PKCS12-----",
        encodebytes,
        b64encode,
        lambda pfx: codecs.BOM_UTF8 + b64encode(pfx) + b"\r\n",
        lambda pfx: b64encode(pfx).decode().encode("utf-16"),
    ],
    ids=["PEM", "PEM of Windows", "base64", "base64 in one line", "base64 with a byte order mark", "base64 in UTF-16"],
)
def test_a_pfx_as_text_opens(alice: Identity, text: Callable[[bytes], bytes]) -> None:
    data = text(alice.pfx())
    assert [c.leaf for c in opened(data, PASSWORD).identities] == [alice.der]
    again = opened(data, PASSWORD, expected_sha256=hashlib.sha256(alice.der).hexdigest())
    assert again.identities[0].key is not None


def test_several_identities_are_split(authority: Authority, alice: Identity) -> None:
    second = authority.issue("alice@example.org", key=rsa_key(1), usage=("key_encipherment",))
    result = opened(together([alice.pfx(), second.pfx()]), PASSWORD)
    assert [c.leaf for c in result.identities] == [alice.der, second.der]
    assert result.problems == ()
    wanted = hashlib.sha256(second.der).hexdigest()
    assert [c.leaf for c in opened(together([alice.pfx(), second.pfx()]), PASSWORD, expected_sha256=wanted).identities] == [second.der]


def test_elliptic_and_edwards_keys_are_read(authority: Authority) -> None:
    curve = authority.issue("eve@example.org", key=ec.generate_private_key(ec.SECP256R1()))
    assert [c.facts.key for c in opened(curve.pfx(), PASSWORD).identities] == ["ec-p256"]
    edwards = authority.issue("eve@example.org", key=ed25519.Ed25519PrivateKey.generate())  # type: ignore[arg-type]  # no phone installs it
    assert [c.facts.key for c in opened(edwards.pfx(), PASSWORD).identities] == ["ed25519"]


def test_a_second_certificate_for_the_same_key_is_an_identity_of_its_own(authority: Authority, alice: Identity) -> None:
    renewed = authority.issue("alice@example.org", name="Alice Renewed")
    result = opened(together([alice.pfx(), only(renewed.pfx(), "encrypted_data")]), PASSWORD)
    assert {c.leaf for c in result.identities} == {alice.der, renewed.der}
