"""Time stamps that OpenSSL signed: what fits is taken, whatever else is not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from distributor.pki import timestamps
from distributor.pki.timestamps import BadToken, request, token, verify
from tests.doubles.tsa import Authority, authority

MESSAGE = b"a checkpoint\n"


@pytest.fixture(scope="module")
def tsa(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    with authority(tmp_path_factory.mktemp("tsa") / "files") as running:
        return running  # OpenSSL answers without the server


@pytest.fixture(scope="module")
def stamped(tsa: Authority) -> bytes:
    return token(tsa.reply(request(MESSAGE, 4711)), MESSAGE, 4711)


def test_a_time_stamp_says_when_and_by_whom(stamped: bytes) -> None:
    found = verify(stamped, MESSAGE)
    assert abs(found.at - datetime.now(UTC)) < timedelta(hours=1)
    assert found.authority == "CN=Time Stamping"
    assert len(found.certificate) == 64


def test_openssl_takes_the_same_token(stamped: bytes, tsa: Authority, tmp_path: Path) -> None:
    (tmp_path / "token").write_bytes(stamped)
    (tmp_path / "data").write_bytes(MESSAGE)
    assert tsa.check(tmp_path / "token", tmp_path / "data") == "Verification: OK"


@pytest.mark.parametrize("named", ["sha1", "sha512"])
def test_authorities_with_other_keys_and_hashes_are_understood(tmp_path: Path, named: str) -> None:
    with authority(tmp_path / "files", key=ec.generate_private_key(ec.SECP384R1()), named=named) as other:
        assert verify(token(other.reply(request(MESSAGE, 1)), MESSAGE, 1), MESSAGE).authority == "CN=Time Stamping"


def test_it_is_of_this_text_and_answers_this_request(stamped: bytes, tsa: Authority) -> None:
    with pytest.raises(BadToken, match="another text"):
        verify(stamped, MESSAGE + b".")
    with pytest.raises(BadToken, match="another request"):
        token(tsa.reply(request(MESSAGE, 4711)), MESSAGE, 4712)
    with pytest.raises(BadToken, match="not an answer"):
        token(b"<html>", MESSAGE, 1)


def test_a_refusal_is_told(tsa: Authority) -> None:
    broken = request(MESSAGE, 1).replace(bytes.fromhex("0609608648016503040201"), bytes.fromhex("0609608648016503040204"))  # SHA-224
    assert broken != request(MESSAGE, 1)
    with pytest.raises(BadToken, match="the authority answered: rejection"):
        token(tsa.reply(broken), MESSAGE, 1)


def test_a_certificate_that_is_not_for_time_stamps_is_none_of_an_authority(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL would not sign with it, so the token is a good one that is verified as if time stamps were something else."""
    with authority(tmp_path / "files") as tsa:
        good = token(tsa.reply(request(MESSAGE, 1)), MESSAGE, 1)
    monkeypatch.setattr(timestamps, "ExtendedKeyUsageOID", type("Other", (), {"TIME_STAMPING": ExtendedKeyUsageOID.CODE_SIGNING}))
    with pytest.raises(BadToken, match="not one for time stamps"):
        verify(good, MESSAGE)


def test_no_bit_of_what_counts_can_be_changed(stamped: bytes) -> None:
    """A flipped bit is found wherever it is, but for a few that carry no meaning in what surrounds the signed parts."""
    passed = []
    for place in range(len(stamped)):
        changed = bytearray(stamped)
        changed[place] ^= 1
        try:
            found = verify(bytes(changed), MESSAGE)
        except BadToken:
            continue
        passed.append((place, found.at, found.certificate))
    assert {(at, certificate) for _, at, certificate in passed} <= {(verify(stamped, MESSAGE).at, verify(stamped, MESSAGE).certificate)}
    assert len(passed) < len(stamped) / 50


@pytest.mark.parametrize("data", [b"", b"0", b"0\x80", b"\x30\x03\x02\x01\x01", b"x" * 70000])
def test_what_is_no_token_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(BadToken):
        verify(data, MESSAGE)
