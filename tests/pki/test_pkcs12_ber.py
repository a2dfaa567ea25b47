"""PFX files in BER (NSS, PKI.js, mixed vendors): they open as those in DER do, and hostile ones end quickly."""

from __future__ import annotations

import time
from contextlib import suppress
from random import Random

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from distributor.model.issues import CheckId
from distributor.pki import asn1
from distributor.pki.asn1 import DEEPEST, EXPLICIT_0, MOST_VALUES, OCTETS, OID, SEQUENCE, _Definite, _is_definite, to_definite_length, wrap
from distributor.pki.pbe import EncodedPassword
from tests.authority import Authority, Identity
from tests.pfx import PASSWORD, opened, refused
from tests.pfx_writer import in_ber, pfx

WORD = EncodedPassword.of(PASSWORD)


@pytest.fixture(scope="module")
def eve(authority: Authority) -> Identity:
    return authority.issue("eve@example.org", key=ec.generate_private_key(ec.SECP256R1()))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32))
def test_whatever_is_in_ber_opens_as_the_same_in_der(eve: Identity, alice: Identity, seed: int) -> None:
    random = Random(seed)  # noqa: S311  to repeat it
    who = random.choice((alice, eve))
    expected = opened(pfx(who, WORD), PASSWORD)
    found = opened(pfx(who, WORD, encode=lambda der: in_ber(der, random)), PASSWORD)
    assert (found, [one.leaf for one in found.identities]) == (expected, [who.der])


def test_octet_strings_in_pieces_of_definite_length_open(alice: Identity) -> None:
    def in_kilobytes(der: bytes) -> bytes:  # PKI.js
        if not (value := asn1.read(der)).tag & 0x20:
            pieces = [value.content[at : at + 1024] for at in range(0, len(value.content), 1024)]
            return wrap(0x24, *(wrap(OCTETS, piece) for piece in pieces)) if value.tag == OCTETS and len(pieces) > 1 else der
        return wrap(value.tag, *(in_kilobytes(part.whole) for part in value.parts()))

    data = pfx(alice, WORD, encode=in_kilobytes)
    assert b"\x24\x82" in data
    assert [one.leaf for one in opened(data, PASSWORD).identities] == [alice.der]


def test_an_indefinite_length_inside_a_definite_one_opens(alice: Identity) -> None:
    def inner(der: bytes) -> bytes:
        parts = [part.whole for part in asn1.read(der).parts()]
        return wrap(SEQUENCE, *(b"\x30\x80" + asn1.read(part).content + b"\0\0" if part[0] == SEQUENCE else part for part in parts))

    data = pfx(alice, WORD, encode=inner)
    assert (data[1], b"\x30\x80" in data) == (0x82, True)
    assert [one.leaf for one in opened(data, PASSWORD).identities] == [alice.der]


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_what_is_der_stays_octet_by_octet(content: bytes) -> None:
    whole = wrap(SEQUENCE, wrap(SEQUENCE, b"\x05\0"), wrap(OCTETS, content), bytes.fromhex("bf8101020500"))
    assert to_definite_length(whole) == whole
    indefinite = b"\x30\x80" + whole + bytes.fromhex("bf81018005000000") + b"\0\0"
    assert to_definite_length(indefinite) == wrap(SEQUENCE, whole, bytes.fromhex("bf8101020500"))
    assert to_definite_length(b"\x30\x84" + len(whole).to_bytes(4) + whole) == wrap(SEQUENCE, whole)


def _values() -> st.SearchStrategy[bytes]:
    """Values in BER: definite lengths, long ones and indefinite ones, strings in pieces, and what only looks like it."""
    leaf = st.builds(wrap, st.sampled_from([0x02, OCTETS, OID, 0x80, 0x1F]), st.binary(max_size=3) | st.just(b"x" * 128))

    def around(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
        tag, contents = st.sampled_from([SEQUENCE, 0x24, 0x31, EXPLICIT_0]), st.lists(inner, max_size=4).map(b"".join)
        long = st.builds(lambda tag, content: bytes((tag, 0x82)) + len(content).to_bytes(2) + content, tag, contents)
        indefinite = st.builds(lambda tag, content: bytes((tag, 0x80)) + content + b"\0\0", tag, contents)
        encrypted = st.builds(lambda name, how, data: wrap(SEQUENCE, wrap(OID, name), how, wrap(EXPLICIT_0, data)), inner, inner, inner)
        return st.builds(wrap, tag, contents) | long | indefinite | encrypted

    return st.recursive(leaf, around, max_leaves=12)


@settings(max_examples=400, deadline=None)
@given(_values() | st.binary(max_size=40))
def test_what_is_left_as_it_is_without_being_rewritten_would_not_change(data: bytes) -> None:
    if _is_definite(data):
        with suppress(ValueError):  # broken ones stay as they are
            assert _Definite(data).whole() is None


def test_encrypted_content_in_pieces_is_joined_where_all_lengths_are_definite() -> None:
    kind, algorithm = wrap(OID, b"\x2a"), wrap(SEQUENCE, wrap(OID, b"\x2b"))
    pieces = wrap(EXPLICIT_0, wrap(OCTETS, b"one"), wrap(OCTETS, b"two"))
    assert to_definite_length(wrap(SEQUENCE, kind, algorithm, pieces)) == wrap(SEQUENCE, kind, algorithm, wrap(0x80, b"onetwo"))


@pytest.mark.parametrize(
    "data",
    [
        b"\x30\x80" * 2**19,
        b"\x05\0" * 2**19,
        b"\x24\x80" * 2**19,
        b"\x30\x80" + b"\x30\0" * 2**19 + b"\0\0",
        wrap(SEQUENCE, b"\x30\x80\0\0" * 2**18),
        b"\x30\x80" * (DEEPEST - 1) + b"\x24\x80" + b"\x04\x01x" * 2**18 + b"\0\0" * DEEPEST,
        b"\x30" + b"\x84\0\x10\0\0" * 2**17,
        b"\x3f" + b"\xff" * 2**20,
    ],
    ids=["levels", "values side by side", "pieces in pieces", "values", "values in a definite one", "deep and many", "lengths", "a tag"],
)
def test_a_hostile_structure_ends_quickly(data: bytes) -> None:
    begun = time.process_time()
    assert refused(data, PASSWORD) == CheckId.UNREADABLE
    assert time.process_time() - begun < 2


def test_depth_and_number_of_values_are_bounded() -> None:
    for levels, works in ((DEEPEST - 1, True), (DEEPEST, False)):
        data = b"\x30\x80" * levels + b"\x05\0" + b"\0\0" * levels
        assert _made_definite(data) is works
    for number, works in ((MOST_VALUES - 1, True), (MOST_VALUES, False)):
        assert _made_definite(b"\x30\x80" + b"\x05\0" * number + b"\0\0") is works


def _made_definite(data: bytes) -> bool:
    try:
        asn1.read(to_definite_length(data))
    except ValueError:
        return False
    return True
