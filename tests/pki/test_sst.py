"""A serialized certificate store, compared with a builder and a reader of the tests' own."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from distributor.pki import sst
from distributor.pki.asn1 import Unreadable
from tests.authority import Authority

HEAD = bytes.fromhex("00000000 43455254")
END = bytes.fromhex("00000000 00000000 00000000")
BLOBS = st.binary(min_size=1, max_size=300)
PROPERTIES = st.dictionaries(st.integers(1, 0xFFFF).filter(lambda number: number not in {32, 33, 34}), st.binary(max_size=60), max_size=4)


def number(value: int) -> bytes:
    return bytes((value & 255, value >> 8 & 255, value >> 16 & 255, value >> 24 & 255))


def entry(kind: int, value: bytes, encoding: int = 1) -> bytes:
    return number(kind) + number(encoding) + number(len(value)) + value


def strict(data: bytes) -> list[bytes]:
    """What a reader that knows nothing but plain certificates finds; any other byte is an AssertionError."""
    assert data[:8] == HEAD
    rest, found = data[8:], []
    while rest != END:
        assert rest[:8] == number(32) + number(1)
        length = int.from_bytes(rest[8:12], "little")
        found.append(rest[12 : 12 + length])
        assert len(found[-1]) == length
        rest = rest[12 + length :]
    return found


def as_windows_writes(ders: Sequence[bytes]) -> bytes:
    """Friendly name, unknown properties, key identifier and SHA-1 before each certificate, as `Export-Certificate` leaves them."""
    data = HEAD
    for position, der in enumerate(ders):
        data += entry(11, f"Größte Stelle {position}\0".encode("utf-16-le"))
        data += entry(98, b"\x01" * 16) + entry(20, bytes(20)) + entry(29, b"")
        data += entry(3, hashlib.sha1(der, usedforsecurity=False).digest())
        data += entry(32, der)
    return data + END


@pytest.fixture(scope="module")
def ders(authority: Authority) -> list[bytes]:
    return [certificate.public_bytes(Encoding.DER) for certificate in (authority.root, authority.issuer)]


def test_a_store_is_written_byte_for_byte(ders: list[bytes]) -> None:
    first, second = ders
    assert sst.write(ders) == HEAD + entry(32, first) + entry(32, second) + END


@given(st.lists(BLOBS, min_size=1, max_size=6))
def test_a_strict_reader_finds_what_was_written_each_once(blobs: list[bytes]) -> None:
    assert strict(sst.write(blobs)) == list(dict.fromkeys(blobs))


@given(st.lists(BLOBS, min_size=1, max_size=6, unique=True))
def test_what_is_written_is_read_again(blobs: list[bytes]) -> None:
    assert sst.read(sst.write(blobs)) == sst.Collection(tuple(map(sst.Stored, blobs)))


@given(st.lists(st.tuples(PROPERTIES, BLOBS), max_size=5))
def test_properties_stay_with_the_certificate_after_them(elements: list[tuple[dict[int, bytes], bytes]]) -> None:
    data = HEAD
    for properties, blob in elements:
        data += b"".join(entry(kind, value) for kind, value in properties.items()) + entry(32, blob)
    found = sst.read(data + END)
    assert [(dict(one.properties), one.certificate) for one in found.stored] == elements


def test_a_file_that_windows_wrote_is_read_with_its_names(ders: list[bytes]) -> None:
    found = sst.read(as_windows_writes(ders))
    assert found.certificates == tuple(ders)
    assert [one.name for one in found.stored] == ["Größte Stelle 0", "Größte Stelle 1"]
    assert found.stored[0].properties[29] == b""


def test_lists_of_revoked_and_of_trusted_certificates_are_counted() -> None:
    found = sst.read(HEAD + entry(33, b"crl") + entry(11, b"x\0") + entry(32, b"der") + entry(34, b"ctl") + entry(33, b"") + END)
    assert (found.certificates, found.crls, found.ctls) == ((b"der",), 2, 1)


def test_an_empty_store_is_read_and_never_written() -> None:
    assert sst.read(HEAD + END).certificates == ()
    with pytest.raises(ValueError, match="without a certificate"):
        sst.write([])
    with pytest.raises(ValueError, match="an empty certificate"):
        sst.write([b""])


@pytest.mark.parametrize(
    ("data", "offset", "reason"),
    [
        (b"", 0, "not a serialized certificate store"),
        (b"-----BEGIN CERTIFICATE-----", 0, "not a serialized certificate store"),
        (number(1) + HEAD[4:] + END, 0, "not a serialized certificate store"),
        (HEAD, 8, "cut off"),
        (HEAD + END[:-1], 8, "cut off"),
        (HEAD + entry(32, b"der"), 23, "cut off"),
        (HEAD + entry(32, b"der") + END[:5], 23, "cut off"),
        (HEAD + END + END, 20, "12 bytes follow the end"),
        (HEAD + END + entry(32, b"der"), 20, "15 bytes follow the end"),
        (HEAD + entry(32, b"der", 0) + END, 12, "unknown encoding 0"),
        (HEAD + entry(32, b"der", 0x10001) + END, 12, "unknown encoding 65537"),
        (HEAD + entry(0x10000, b"x") + entry(32, b"der") + END, 8, "unknown kind 65536"),
        (HEAD + number(0) + number(1) + number(0) + END, 8, "unknown kind 0"),
        (HEAD + entry(11, b"x\0") + END, 8, "properties without a certificate"),
        (HEAD + entry(32, b"der") + entry(11, b"x\0") + END, 23, "properties without a certificate"),
        (HEAD + number(32) + number(1) + number(5), 16, "an entry of 5 bytes where 0 are left"),
        (HEAD + entry(32, b"") + END, 16, "an empty certificate"),
        (HEAD + number(32) + number(1) + number(0xFFFFFFFF) + END, 16, "an entry of 4294967295 bytes where 12 are left"),
    ],
)
def test_a_malformed_store_is_refused_with_its_place(data: bytes, offset: int, reason: str) -> None:
    with pytest.raises(Unreadable, match=reason) as caught:
        sst.read(data)
    assert str(caught.value).startswith(f"byte {offset}: ")


def test_no_shorter_and_no_longer_file_is_a_store(ders: list[bytes]) -> None:
    whole = as_windows_writes(ders)
    for end in range(len(whole)):
        with pytest.raises(Unreadable):
            sst.read(whole[:end])
    with pytest.raises(Unreadable):
        sst.read(whole + b"\0")


def place(data: bytes) -> int | None:
    """Where a reader stumbles; None where it does not. Anything but that is a failure of the test."""
    try:
        sst.read(data)
    except Unreadable as fault:
        return int(str(fault).removeprefix("byte ").partition(":")[0])
    return None


def test_a_damaged_file_is_read_or_refused_and_nothing_else(ders: list[bytes]) -> None:
    chance, whole = random.Random(4), as_windows_writes(ders)  # noqa: S311  no secret
    for _ in range(2000):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        assert 0 <= (place(bytes(damaged)) or 0) <= len(damaged)


@given(st.binary(max_size=80))
def test_whatever_follows_the_beginning_is_refused_where_it_is_wrong(rest: bytes) -> None:
    stumbled = place(HEAD + rest)
    assert stumbled is None or 0 <= stumbled <= len(rest) + 8
    assert (stumbled is None) <= rest.endswith(END)
