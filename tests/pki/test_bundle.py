"""Files of certificates in every form that authorities hand them out."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from hypothesis import given
from hypothesis import strategies as st

from distributor.pki import pem, sst
from distributor.pki.asn1 import Unreadable
from tests.authority import Authority
from tests.needs import require
from tests.pki.pki import make

ROOT = make("Root")
MIDDLE = make("Middle", ROOT)
BOTH = [ROOT.certificate, MIDDLE.certificate]
DERS = [ROOT.der, MIDDLE.der]


def ders(data: bytes) -> list[bytes]:
    return [stored.certificate for stored in pem.read(data)]


@pytest.mark.parametrize(
    "data",
    [
        ROOT.pem + MIDDLE.pem,
        b"subject=CN = Root\r\n" + (ROOT.pem + b"between\n" + MIDDLE.pem).replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + ROOT.pem + MIDDLE.pem,
        b"\xff\xfe" + (ROOT.pem + MIDDLE.pem).decode().encode("utf-16-le"),
        sst.write(DERS),
    ],
    ids=["PEM", "PEM from Windows", "PEM with a BOM", "PEM in UTF-16", "a collection"],
)
def test_every_certificate_is_found_in_its_order(data: bytes) -> None:
    assert ders(data) == DERS


@pytest.mark.parametrize("encoding", [Encoding.DER, Encoding.PEM])
def test_pkcs7_of_windows_and_openssl_is_read(encoding: Encoding) -> None:
    assert sorted(ders(pkcs7.serialize_certificates(BOTH, encoding))) == sorted(DERS)


def test_pkcs7_by_openssls_own_program_is_read(tmp_path: Path) -> None:
    (tmp_path / "both.pem").write_bytes(ROOT.pem + MIDDLE.pem)
    program = [require("openssl"), "crl2pkcs7", "-nocrl", "-certfile", tmp_path / "both.pem", "-outform", "DER"]
    assert sorted(ders(subprocess.run(program, check=True, capture_output=True).stdout)) == sorted(DERS)


def test_a_trusted_certificate_of_openssl_is_read_without_its_trust(tmp_path: Path) -> None:
    (tmp_path / "root.pem").write_bytes(ROOT.pem)
    program = [require("openssl"), "x509", "-in", tmp_path / "root.pem", "-trustout", "-addtrust", "emailProtection"]
    assert ders(subprocess.run(program, check=True, capture_output=True).stdout) == [ROOT.der]


def test_one_certificate_in_der_is_read() -> None:
    assert ders(ROOT.der) == [ROOT.der]


def test_a_key_beside_a_certificate_is_passed_over(authority: Authority) -> None:
    alice = authority.issue("alice@example.org")
    assert ders(alice.key_pem() + alice.pem) == [alice.der]
    with pytest.raises(pem.Empty):
        pem.read(alice.key_pem())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "neither PEM nor DER"),
        (b"hello", "neither PEM nor DER"),
        (ROOT.der + b"\0", "neither PEM nor DER"),
        (ROOT.der[:-1], "neither PEM nor DER"),
        (b"-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----\n".replace(b"*", b"AAA"), "damaged"),
        (b"-----BEGIN PKCS7-----\nMAA=\n-----END PKCS7-----\n", "a damaged PKCS#7 file"),
        (sst.write(DERS)[:-1], "a damaged collection, byte"),
        (bytes.fromhex("300f06092a864886f70d0107013002 0400"), "does not contain certificates"),
    ],
)
def test_what_is_no_such_file_is_refused_with_a_reason(data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason):
        pem.read(data)


def test_a_pfx_is_not_opened(authority: Authority) -> None:
    with pytest.raises(Unreadable, match="private keys"):
        pem.read(authority.issue("alice@example.org").pfx())


@given(st.binary(max_size=200))
def test_whatever_the_bytes_nothing_else_is_raised(data: bytes) -> None:
    for whole in (data, b"\x30\x80" + data, b"-----BEGIN TRUSTED CERTIFICATE-----\n" + data + b"\n-----END TRUSTED CERTIFICATE-----"):
        try:
            pem.read(whole)
        except Unreadable:
            continue
