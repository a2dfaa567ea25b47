"""What a server repeats of a secret does not get through, in whichever form; what it says besides does."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.model.redaction import FRAGMENT, REDACTED, Redactor
from distributor.model.secret import Secret

WORD = 'Tr0ub4dor&3/"+ü'
redact = Redactor([Secret(WORD)])


@pytest.mark.parametrize(
    "form",
    [
        WORD,
        WORD.upper(),
        quote_plus(WORD),
        json.dumps(WORD)[1:-1],
        WORD.encode().hex(),
        WORD.encode().hex().upper(),
        WORD[:FRAGMENT],
        WORD[-FRAGMENT:],
        f"{WORD[:5]}\n {WORD[5:]}",
    ],
)
def test_each_way_to_write_a_secret_is_cut_out(form: str) -> None:
    assert redact(f"535 5.7.8 not '{form}', try again") == f"535 5.7.8 not '{REDACTED}', try again"


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_base64_of_anything_around_a_secret_shows_nothing_of_it(before: bytes, after: bytes) -> None:
    blob = base64.b64encode(before + WORD.encode() + after).decode()
    redacted = redact(f"500 what is {blob}?")
    inner = blob[(len(before) * 8 + 5) // 6 : (len(before) + len(WORD.encode())) * 8 // 6]  # the messages that come of the secret alone
    assert not [start for start in range(len(inner) - FRAGMENT) if inner[start : start + FRAGMENT] in redacted]


@given(st.text(max_size=200), st.text(min_size=FRAGMENT, max_size=40))
def test_no_fragment_of_a_secret_comes_through_whatever_stands_around_it(around: str, secret: str) -> None:
    redacted = Redactor([secret])(around + secret + around)
    squeezed = "".join(secret.split())
    assert len(squeezed) < FRAGMENT or squeezed not in "".join(redacted.split())


def test_what_is_no_secret_is_left_as_it_was() -> None:
    response = "535 5.7.3 Authentication unsuccessful [AM0PR01CA0124.eurprd01.prod.exchangelabs.com 2026-11-30T10:00:00.000Z 08DE2]"
    assert redact(response) == response
    assert Redactor()(response) == response
    assert Redactor([""])(response) == response


def test_a_very_short_secret_is_cut_out_where_it_stands_alone() -> None:
    assert Redactor(["abc"])("abc is not abcdef") == f"{REDACTED} is not abcdef"
    assert Redactor(["abcde"])("xabcdex") == f"x{REDACTED}x"


def test_a_redactor_shows_nothing_of_what_it_knows() -> None:
    assert repr(redact) == "Redactor(1 secrets)"


def test_a_secret_that_is_broken_over_the_lines_of_an_answer_is_cut_out_with_the_codes_between() -> None:
    secret = 'geheim, Wort"7&x/PQ%zz'
    redacted = Redactor([secret])('5.7.8 geheim,\n5.7.8 Wort"7&\n5.7.8 x/PQ%zz')
    assert redacted == "5.7.8 [redacted]"


@pytest.mark.parametrize("write", [quote, html.escape, lambda text: text.encode().hex(":")])
def test_a_secret_as_a_page_or_a_path_writes_it_is_cut_out(write: Callable[[str], str]) -> None:
    secret = 'geheim"7&x/PQ%zz'
    assert Redactor([secret])(f"no: {write(secret)}!") == "no: [redacted]!"
