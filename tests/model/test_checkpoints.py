"""The tree of RFC 6962, written down a second time as the recursion that the RFC has, and notes taken apart by other means."""

from __future__ import annotations

import base64
import struct
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from distributor.model.checkpoints import (
    Checkpoint,
    Tree,
    VerifierKey,
    checkpoint_text,
    compact_line,
    extend,
    parse_checkpoints,
    parse_key,
    root,
    signature_fault,
    signed_note,
)
from distributor.pki.ed25519 import verify

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
VERIFIER = VerifierKey("distributor/abc", KEY.public_key().public_bytes_raw())
OTHER = VerifierKey("distributor/abc", Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key().public_bytes_raw())


def merkle_tree_hash(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962 2.1."""
    if len(leaves) <= 1:
        return sha256(b"\x00" + leaves[0]).digest() if leaves else sha256(b"").digest()
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return sha256(b"\x01" + merkle_tree_hash(leaves[:k]) + merkle_tree_hash(leaves[k:])).digest()


def events(number: int) -> list[str]:
    return [sha256(str(n).encode()).hexdigest() for n in range(number)]


@given(st.lists(st.integers(0, 40), max_size=12))
def test_a_tree_that_grows_in_any_steps_has_the_root_of_the_definition(steps: list[int]) -> None:
    leaves, edge = [bytes.fromhex(event) for event in events(sum(steps))], ()
    size = 0
    for step in steps:
        edge = extend(edge, size, leaves[size : size + step])
        size += step
        assert root(edge) == merkle_tree_hash(leaves[:size])
        assert len(edge) == size.bit_count()


@pytest.mark.parametrize("size", [1, 2, 1023, 1024, 1025, 3000])
def test_events_added_one_by_one_make_the_same_tree(size: int) -> None:
    tree = Tree()
    for event in events(size):
        tree.add(event)
    assert (tree.size, tree.event) == (size, events(size)[-1])
    assert root(tree.edge) == merkle_tree_hash([bytes.fromhex(event) for event in events(size)])


def test_the_edge_of_a_million_events_is_short_and_is_continued_from_there() -> None:
    leaf = sha256(b"an event").digest()
    edge = extend((), 0, [leaf] * 10**6)
    assert len(edge) == 7  # one for each bit of the size that is set
    assert extend(edge, 10**6, [leaf] * 5) == extend((), 0, [leaf] * (10**6 + 5))


def test_what_is_no_hash_changes_the_root_and_breaks_nothing() -> None:
    one, other = Tree(), Tree()
    for event in events(3):
        one.add(event)
        other.add(event if event != events(3)[1] else "nonsense \ud800")
    assert root(one.edge) != root(other.edge)


# --- signed notes -----------------------------------------------------------------------------------------------------


def note(size: int = 5, key: VerifierKey = VERIFIER, origin: str = "distributor/abc") -> str:
    text = checkpoint_text(origin, size, merkle_tree_hash([]))
    return signed_note(text, key, KEY.sign(text.encode()))


def test_a_note_is_what_c2sp_says_it_is() -> None:
    """Taken apart byte by byte, with nothing of the product."""
    data = note().encode()
    text, _, signatures = data.rpartition(b"\n\n")
    assert text + b"\n" == b"distributor/abc\n5\n" + base64.b64encode(sha256(b"").digest()) + b"\n"
    assert signatures.startswith(b"\xe2\x80\x94 distributor/abc ")
    assert signatures.endswith(b"\n")
    assert signatures.count(b"\n") == 1
    raw = base64.b64decode(signatures[:-1].split(b" ")[2], validate=True)
    public = KEY.public_key().public_bytes_raw()
    (key_id,) = struct.unpack(">I", raw[:4])
    assert key_id == int(sha256(b"distributor/abc\x0a\x01" + public).hexdigest()[:8], 16)
    Ed25519PublicKey.from_public_bytes(public).verify(raw[4:], text + b"\n")
    name, id_, key = str(VERIFIER).split("+", 2)
    assert (name, int(id_, 16), base64.b64decode(key)) == ("distributor/abc", key_id, b"\x01" + public)


def test_a_note_of_another_program_is_read() -> None:
    """The example in the specification of C2SP."""
    found = parse_checkpoints(
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\n"
        "\u2014 example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    )
    (checkpoint,) = found
    assert isinstance(checkpoint, Checkpoint)
    assert (checkpoint.origin, checkpoint.size, checkpoint.signatures[0][1].hex()) == ("example.com/behind-the-sofa", 20852163, "033de0ae")


def test_a_file_may_have_several_notes_extension_lines_signatures_of_others_and_crlf() -> None:
    text = checkpoint_text("distributor/abc", 7, merkle_tree_hash([])) + "an extension\n"
    long = signed_note(text, OTHER, bytes(64)) + signed_note(text, VERIFIER, KEY.sign(text.encode())).rpartition("\n\n")[2]
    found = parse_checkpoints(note() + "\n\n" + long + note(9).replace("\n", "\r\n"))
    assert [one.size for one in found if isinstance(one, Checkpoint)] == [5, 7, 9]
    assert [signature_fault(one, [VERIFIER], verify) for one in found if isinstance(one, Checkpoint)] == [None, None, None]


def test_a_line_of_a_log_has_the_whole_note() -> None:
    (checkpoint,) = parse_checkpoints(note())
    assert isinstance(checkpoint, Checkpoint)
    line = f"Nov 30 22:00:00 host distributor: {compact_line(checkpoint)}\n"
    assert line.isascii()
    assert parse_checkpoints("another line\n" + line + line) == [checkpoint, checkpoint]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n5\n", "\n05\n"),
        ("\n5\n", "\n-5\n"),
        ("\n5\n", "\n5\t\n"),
        ("\n5\n", "\n5\n\n"),
        ("=\n\n", "\n\n"),
        ("\n\n", "\n"),
        ("\u2014 distributor/abc ", "- distributor/abc "),
        ("\u2014 distributor/abc ", "\u2014 distributor+abc "),
        ("\u2014 distributor/abc ", "\u2014 "),
    ],
)
def test_what_is_no_checkpoint_is_refused_in_words(old: str, new: str) -> None:
    changed = note().replace(old, new, 1)
    assert changed != note()
    assert any(isinstance(found, str) for found in parse_checkpoints(changed))


def test_a_signature_counts_for_its_key_its_text_and_its_log_only() -> None:
    def fault(text: str, *keys: VerifierKey) -> str | None:
        (checkpoint,) = parse_checkpoints(text)
        assert isinstance(checkpoint, Checkpoint)
        return signature_fault(checkpoint, keys, verify)

    assert fault(note(), VERIFIER) is None
    assert fault(note(), OTHER, VERIFIER) is None
    assert "is not valid" in str(fault(note().replace("\n5\n", "\n6\n"), VERIFIER))
    assert "not signed by" in str(fault(note(), OTHER))
    assert "is not valid" in str(fault(note(key=OTHER), OTHER))
    assert "of another log" in str(fault(note(origin="distributor/xyz"), VERIFIER))


def test_a_public_key_is_read_whole_or_not_at_all() -> None:
    assert parse_key(f" {VERIFIER}\n") == VERIFIER
    for broken in ("", "x", str(VERIFIER)[:-1], str(VERIFIER).replace("abc", "abd"), str(VERIFIER).replace("+A", "+B", 1)):
        with pytest.raises(ValueError, match="key"):
            parse_key(broken)


@given(st.text())
def test_no_text_makes_the_parser_fail(text: str) -> None:
    for found in (*parse_checkpoints(text), *parse_checkpoints(f"{text}\n\n\u2014 {text} {text}\n")):
        assert isinstance(found, str | Checkpoint)
