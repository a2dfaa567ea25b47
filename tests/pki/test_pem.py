"""PEM and DER as people have them."""

from __future__ import annotations

import hashlib
import subprocess
import unicodedata
from base64 import encodebytes
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as ser
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs7

from distributor.model.certificates import FilePart, ParsedIdentities, SourceMaterial
from distributor.model.issues import CheckId
from distributor.model.limits import Limits
from distributor.model.secret import Secret
from distributor.pki import parse_material, pem
from tests.authority import Authority, Identity, rsa_key
from tests.needs import require

PASSWORD = "in-comes-a-file"


def opened(
    *files: bytes, passwords: tuple[str, ...] = (), expected_sha256: str | None = None, limits: Limits | None = None
) -> ParsedIdentities:
    parts = tuple(FilePart(f"{n}.pem", f"/{n}.pem", None, hashlib.sha256(data).hexdigest(), data) for n, data in enumerate(files))
    return parse_material(SourceMaterial("pem", parts, tuple(map(Secret, passwords))), limits or Limits(), expected_sha256=expected_sha256)


def leaves(result: ParsedIdentities) -> list[bytes]:
    return [identity.leaf for identity in result.identities]


def refused(*files: bytes, passwords: tuple[str, ...] = ()) -> CheckId:
    result = opened(*files, passwords=passwords)
    assert result.identities == ()
    (problem,) = result.problems
    assert problem.hint
    return problem.check


@pytest.fixture(scope="module")
def alice(authority: Authority) -> Identity:
    return authority.issue("alice@example.org")


@pytest.fixture(scope="module")
def chain(alice: Identity) -> bytes:
    return b"".join(c.public_bytes(ser.Encoding.PEM) for c in reversed(alice.chain))


def traditional(identity: Identity) -> bytes:
    return identity.key.private_bytes(ser.Encoding.PEM, ser.PrivateFormat.TraditionalOpenSSL, ser.NoEncryption())


def test_certificate_and_key_in_two_files(alice: Identity) -> None:
    assert leaves(opened(alice.pem, alice.key_pem())) == [alice.der]


@pytest.mark.parametrize("order", ["key first", "key last"])
def test_one_file_with_the_chain_in_any_order(alice: Identity, chain: bytes, order: str) -> None:
    data = alice.key_pem() + chain + alice.pem if order == "key first" else chain + alice.pem + alice.key_pem()
    (identity,) = opened(data).identities
    assert identity.leaf == alice.der
    assert identity.chain == tuple(c.public_bytes(ser.Encoding.DER) for c in alice.chain)


@pytest.mark.parametrize(
    "damage",
    [
        lambda t: t.replace(b"\n", b"\r\n"),
        lambda t: t.replace(b"\n", b"\r"),
        lambda t: b"\xef\xbb\xbf" + t,
        lambda t: t.decode().encode("utf-16"),
        lambda t: t.decode().encode("utf-16-le"),
        lambda t: b"\xfe\xff" + t.decode().encode("utf-16-be"),
        lambda t: b"Bag Attributes\n    friendlyName: Alice\nsubject=CN = Alice\n" + t,
        lambda t: t + b"\n\n\n",
        lambda t: t.rstrip(),
    ],
    ids=["crlf", "cr", "bom", "utf-16", "utf-16-le", "utf-16-be", "bag attributes", "blank lines", "no last line end"],
)
def test_what_editors_and_tools_do_to_it(alice: Identity, damage: object) -> None:
    assert callable(damage)
    assert leaves(opened(damage(alice.pem + alice.key_pem()))) == [alice.der]


def test_der_files(alice: Identity) -> None:
    key = alice.key.private_bytes(ser.Encoding.DER, ser.PrivateFormat.PKCS8, ser.NoEncryption())
    assert leaves(opened(alice.der, key)) == [alice.der]
    sealed = alice.key.private_bytes(ser.Encoding.DER, ser.PrivateFormat.PKCS8, ser.BestAvailableEncryption(PASSWORD.encode()))
    assert leaves(opened(alice.der, sealed, passwords=(PASSWORD,))) == [alice.der]


def test_traditional_keys_and_the_block_of_parameters(authority: Authority, alice: Identity) -> None:
    assert leaves(opened(alice.pem + traditional(alice))) == [alice.der]
    curve = authority.issue("eve@example.org", key=ec.generate_private_key(ec.SECP256R1()))
    parameters = b"-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"
    assert leaves(opened(curve.pem, parameters + traditional(curve))) == [curve.der]


def test_an_encrypted_key_wants_its_password(alice: Identity) -> None:
    sealed = alice.key_pem(PASSWORD)
    assert refused(alice.pem, sealed) == CheckId.WRONG_PASSWORD
    assert refused(alice.pem, sealed, passwords=("wrong",)) == CheckId.WRONG_PASSWORD
    assert leaves(opened(alice.pem, sealed, passwords=("wrong", PASSWORD))) == [alice.der]


def test_a_traditional_encrypted_key(alice: Identity, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(traditional(alice))
    command = [require("openssl"), "rsa", "-aes128", "-traditional", "-in", str(tmp_path / "key.pem"), "-passout", f"pass:{PASSWORD}"]
    sealed = subprocess.run(command, check=True, capture_output=True).stdout
    assert b"DEK-Info" in sealed
    assert leaves(opened(alice.pem, sealed, passwords=(PASSWORD,))) == [alice.der]
    assert refused(alice.pem, sealed, passwords=("wrong",)) == CheckId.WRONG_PASSWORD
    assert refused(alice.pem, sealed) == CheckId.WRONG_PASSWORD


def test_once_proven_it_comes_with_its_key(alice: Identity) -> None:
    (identity,) = opened(alice.pem, alice.key_pem(), expected_sha256=hashlib.sha256(alice.der).hexdigest()).identities
    assert identity.key is not None


def test_a_chain_in_pkcs7(alice: Identity) -> None:
    bundle = pkcs7.serialize_certificates(list(alice.chain), ser.Encoding.PEM)
    assert len(opened(alice.pem + bundle + alice.key_pem()).identities[0].chain) == 2


def test_a_pfx_in_pem_opens_under_any_name(alice: Identity) -> None:
    armoured = b"-----BEGIN PKCS12-----\n" + encodebytes(alice.pfx(PASSWORD)) + b"-----END PKCS12-----\n"
    assert leaves(opened(armoured, passwords=(PASSWORD,))) == [alice.der]


def test_the_password_of_a_key_may_be_spelled_in_another_way(alice: Identity) -> None:
    composed, decomposed = (unicodedata.normalize(form, "Grüße") for form in ("NFC", "NFD"))
    assert leaves(opened(alice.pem, alice.key_pem(composed), passwords=(decomposed,))) == [alice.der]
    assert leaves(opened(alice.pem, alice.key_pem(decomposed), passwords=(composed,))) == [alice.der]


def test_the_iterations_of_a_key_are_limited(alice: Identity) -> None:
    how = ser.PrivateFormat.PKCS8
    builder = how.encryption_builder if hasattr(how, "encryption_builder") else None
    assert builder is not None
    result = opened(alice.pem, alice.key_pem(PASSWORD), passwords=(PASSWORD,), limits=Limits(iterations=1))
    assert [p.check for p in result.problems] == [CheckId.TOO_COSTLY]


def test_what_does_not_belong_together(authority: Authority, alice: Identity) -> None:
    other = authority.issue("bob@example.org", key=rsa_key(1))
    assert refused(alice.pem, other.key_pem()) == CheckId.KEY_MISMATCH
    assert refused(alice.pem) == CheckId.NO_KEY
    assert refused(alice.key_pem()) == CheckId.KEY_MISMATCH


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"hello",
        b"\x30",
        b"\x30\x80",
        b"\x30\x03abc",
        b"-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n",
        b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
        b"-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n",
    ],
    ids=repr,
)
def test_garbage_is_refused(data: bytes) -> None:
    assert refused(data, passwords=(PASSWORD,)) in {CheckId.UNREADABLE, CheckId.NO_KEY}


def test_a_damaged_pem_file_is_not_told_to_convert_a_pfx(alice: Identity) -> None:
    damaged = alice.pem.replace(b"\n-----END", b"!\n-----END").replace(b"MI", b"=I", 1)
    part = FilePart("a.pem", "/a.pem", None, "00", damaged)
    (problem,) = parse_material(SourceMaterial("pem", (part,)), Limits()).problems
    assert (problem.check, problem.message, problem.hint) == (
        CheckId.UNREADABLE,
        "a PEM block in the file is damaged",
        "export the file again",
    )


def test_wrong_passwords_for_a_key_take_no_longer_than_a_file_may(alice: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    key = alice.key_pem(PASSWORD)
    (block,) = pem.blocks(key)
    scheme = pem.scheme_of(block)
    assert scheme is not None
    tried = []
    real = pem.load_key
    monkeypatch.setattr(pem, "load_key", lambda block, secret: tried.append(secret) or real(block, secret))
    words = tuple(f"wrong {number}" for number in range(50))
    (problem,) = opened(alice.pem, key, passwords=words, limits=Limits(open_seconds=7.5 * scheme.seconds)).problems
    assert len(tried) == 7
    assert problem.check is CheckId.WRONG_PASSWORD
    assert problem.message.startswith("none of the first 7 of 50 passwords opens the key; each takes ")
