"""What is shown of a text in which secrets or URLs with passwords may stand."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.model.redaction import FRAGMENT, REDACTED, Redactor, is_unambiguous, without_password
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


# --- URLs with a password ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("sqlite:///distributor.db", "sqlite:///distributor.db"),
        ("sqlite:////var/lib/a@b/distributor.db", "sqlite:////var/lib/a@b/distributor.db"),
        ("postgresql+psycopg://db.example.org:5432/ledger", "postgresql+psycopg://db.example.org:5432/ledger"),
        ("postgresql+psycopg://ledger@db.example.org/ledger", "postgresql+psycopg://ledger@db.example.org/ledger"),
        ("postgresql+psycopg://me:hunter2@db.example.org/x", "postgresql+psycopg://me:***@db.example.org/x"),
        ("postgresql+psycopg://me:hunt/er2@db.example.org/x", "postgresql+psycopg://me:***@db.example.org/x"),
        ("postgresql+psycopg://me:hunt@er2@db.example.org/x", "postgresql+psycopg://me:***@db.example.org/x"),
        ("postgresql+psycopg://me:hunt?er2@db.example.org/x", "postgresql+psycopg://***"),
        ("postgresql+psycopg://:hunter2@db.example.org/x", "postgresql+psycopg://***:***@db.example.org/x"),
        ("postgresql+psycopg://me:hunter2", "postgresql+psycopg://***"),
        ("postgresql:me:hunter2@db", "***"),
        ("host=db password=hunter2", "***"),
        (
            "postgresql+psycopg://[::1]:5432/x?sslmode=require&password=hunter2",
            "postgresql+psycopg://[::1]:5432/x?sslmode=require&password=***",
        ),
        ("postgresql+psycopg:///x?host=/run/pg&sslpassword=hunter2", "postgresql+psycopg:///x?host=/run/pg&sslpassword=***"),
        ("postgresql+psycopg:///x?PASSFILE=/hunter2&service=hunter2", "postgresql+psycopg:///x?PASSFILE=***&service=***"),
        ("postgresql+psycopg://me@db/x?password=hunter2&er2", "postgresql+psycopg://me@db/x?password=***&***"),
        ("postgresql+psycopg://me@db/x?password=h@unter2", "postgresql+psycopg://***"),
        ("sqlite+pysqlcipher:///x.db?passphrase=hunter2", "sqlite+pysqlcipher:///x.db?passphrase=***"),
        ("https://login.microsoftonline.com", "https://login.microsoftonline.com"),
        ("https://graph.microsoft.com/v1.0/x", "https://graph.microsoft.com/v1.0/x"),
    ],
)
def test_a_url_is_shown_without_its_passwords(url: str, seen: str) -> None:
    assert without_password(url) == seen


WORDS = st.text("aB3@/:?#&;=% ", min_size=4, max_size=12).map(lambda word: f"Zq7{word}Wx9")


@given(WORDS)
def test_no_part_of_an_unescaped_password_is_shown(word: str) -> None:
    for url in (f"postgresql+psycopg://me:{word}@db/x", f"postgresql+psycopg://me@db/x?password={word}&sslmode=require"):
        assert "Zq7" not in without_password(url)
        assert "Wx9" not in without_password(url)


def test_a_url_that_can_be_read_in_two_ways_is_known() -> None:
    assert is_unambiguous("postgresql+psycopg://me:hunter%402@db.example.org:5432/x?sslmode=require")
    assert is_unambiguous("postgresql+psycopg:///x?host=/run/postgresql&password=hunter2")
    for url in ("me:hunt@er2@db/x", "me:hunt/er2@db/x", "me:hunt?er2@db/x", "me:h:u@db/x", "me:hunter2", "me:h#u@db/x"):
        assert not is_unambiguous(f"postgresql+psycopg://{url}")
