"""One parser for mail addresses: what passes is safe in a header, an envelope and the ledger."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.core.people import Address, BadAddress, parse_address, printable, unsafe


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("alice@example.org", "alice@example.org"),
        ("  Alice.O'Neil+x@EXAMPLE.Org \n", "Alice.O'Neil+x@example.org"),
        ("zoë@bücher.example", "zoë@xn--bcher-kva.example"),
        ("zoe\u0308@example.org", "zoë@example.org"),
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
    assert printable(found.reason).isprintable()


def test_spellings_of_one_mailbox_share_a_key() -> None:
    spellings = ("Alice@Example.org", "alice@EXAMPLE.ORG", "ALICE@example.org")
    assert len({parse_address(text).key for text in spellings if isinstance(parse_address(text), Address)}) == 1  # type: ignore[union-attr]


@given(st.text(max_size=60))
def test_nothing_unsafe_passes(text: str) -> None:
    match parse_address(text):
        case Address() as address:
            written = str(address)
            assert not any(unsafe(c) or c.isspace() for c in written)
            assert written.count("@") == 1
            assert parse_address(written) == address
        case BadAddress():
            pass


@given(st.text(max_size=60))
def test_what_is_shown_is_printable_and_plain_text_stays(text: str) -> None:
    assert not any(map(unsafe, printable(text)))
    if not any(map(unsafe, text)):
        assert printable(text) == text
