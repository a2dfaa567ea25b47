"""One parser for mail addresses: what passes is safe in a header, an envelope and the ledger."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.model.people import Address, BadAddress, escape_unsafe, is_unsafe, key_of, parse_address

FORMS = [partial(unicodedata.normalize, form) for form in ("NFC", "NFKC", "NFD", "NFKD")]
FOLDS = [str.casefold, str.lower, str.upper, str.title, str.swapcase, *FORMS]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alice@example.org", "alice@example.org"),
        ("  Alice.O'Neil+x@EXAMPLE.Org \n", "Alice.O'Neil+x@example.org"),
        ("zoë@bücher.example", "zoë@xn--bcher-kva.example"),
        ("a@xn--bcher-kva.example", "a@xn--bcher-kva.example"),
        (f"{'x' * 64}@example.org", f"{'x' * 64}@example.org"),
    ],
)
def test_addresses_that_are_meant(text: str, expected: str) -> None:
    assert str(parse_address(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "alice",
        "alice@",
        "@example.org",
        "alice@@example.org",
        "alice@localhost",
        "anna@exmaple",
        "a b@example.org",
        "alice@exa mple.org",
        "Alice <alice@example.org>",
        "alice@example.org, bob@example.org",
        "alice@example.org;bob@example.org",
        "group:alice@example.org;",
        '"alice"@example.org',
        "alice(comment)@example.org",
        ".alice@example.org",
        "alice.@example.org",
        "al..ice@example.org",
        "=?utf-8?q?victim?=@example.org",
        "alice@example.org\r\nBcc: x@example.org",
        "alice\x00@example.org",
        "alice\x1b[2J@example.org",
        "alice\u202e@example.org",
        "al\u200dice@example.org",
        "alice@exam\u00adple..org",
        "alice@-example.org",
        "alice@example..org",
        "alice@[127.0.0.1]",
        "zoe\u0308@example.org",
        "\u212aate@example.org",
        f"{'x' * 65}@example.org",
        f"{'ë' * 33}@example.org",
        f"a@{'x.' * 130}org",
    ],
    ids=repr,
)
def test_what_is_no_address_is_refused_with_a_hint(text: str) -> None:
    found = parse_address(text)
    assert isinstance(found, BadAddress)
    assert found.reason
    assert found.hint
    assert escape_unsafe(found.reason).isprintable()


def test_spellings_of_one_mailbox_share_a_key() -> None:
    spellings = ("Alice@Example.org", "alice@EXAMPLE.ORG", "ALICE@example.org")
    assert len({parse_address(text).key for text in spellings if isinstance(parse_address(text), Address)}) == 1  # type: ignore[union-attr]


def test_messages_that_folding_joins_are_two_mailboxes() -> None:
    joined = {
        "strauß": "strauss",
        "\u017fmith": "smith",
        "\ufb01scher": "fischer",
        "änna": "Änna",
        "\uff41nna": "anna",
        "\u0131lgaz": "ilgaz",
    }
    for one, other in joined.items():
        keys = {parsed.key for text in (one, other) if isinstance(parsed := parse_address(f"{text}@example.org"), Address)}
        assert len(keys) == 2, (one, other)


@given(st.text(max_size=30), st.text(max_size=30))
def test_two_mailboxes_are_one_only_where_ascii_letters_differ_in_case(one: str, other: str) -> None:
    first, second = (parse_address(f"{local}@example.org") for local in (one, other))
    if isinstance(first, Address) and isinstance(second, Address):
        plain = str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abcdefghijklmnopqrstuvwxyz")
        assert (first.key == second.key) == (one.strip().translate(plain) == other.strip().translate(plain))


@given(st.characters(min_codepoint=0xA1), st.sampled_from(FOLDS))
def test_no_way_to_fold_a_message_joins_two_mailboxes(message: str, fold: Callable[[str], str]) -> None:
    first, second = (parse_address(f"a{local}@example.org") for local in (message, fold(message)))
    if isinstance(first, Address) and isinstance(second, Address) and fold(message) != message:
        assert first.key != second.key


def test_a_key_of_a_text_is_that_of_its_address() -> None:
    for text in ("Alice@example.org", "STRAUß@example.org", "Änna.X@xn--bcher-kva.example"):
        parsed = parse_address(text)
        assert isinstance(parsed, Address)
        assert parsed.key == key_of(text) == key_of(str(parsed))


@given(st.text(max_size=60))
def test_nothing_unsafe_passes(text: str) -> None:
    match parse_address(text):
        case Address() as address:
            written = str(address)
            assert not any(is_unsafe(c) or c.isspace() for c in written)
            assert written.count("@") == 1
            assert parse_address(written) == address
        case BadAddress():
            pass


@given(st.text(max_size=60))
def test_what_is_shown_is_printable_and_plain_text_stays(text: str) -> None:
    assert not any(map(is_unsafe, escape_unsafe(text)))
    if not any(map(is_unsafe, text)):
        assert escape_unsafe(text) == text
