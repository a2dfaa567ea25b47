"""A PFX opens with the password as it was given, however the program that wrote it spelled or encoded it."""

from __future__ import annotations

import hashlib
import unicodedata

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from distributor.model.issues import CheckId
from distributor.model.limits import Limits
from distributor.model.secret import Secret
from distributor.pki import pbe
from distributor.pki.asn1 import SEQUENCE, wrap
from distributor.pki.passwords import FEW, candidates, with_octets
from distributor.pki.pbe import EncodedPassword, Mac
from tests.authority import Authority, Identity
from tests.pfx import opened, refused
from tests.pfx_writer import SHROUDED, bag, data, encrypted, pfx, private_key, shrouded, whole

GIVEN = "Grüße-à-Zoë"
DECOMPOSED = unicodedata.normalize("NFD", GIVEN)
BMP = EncodedPassword.of(GIVEN).bmp
MISREAD = EncodedPassword.of(GIVEN.encode().decode("latin-1"))  # the octets of UTF-8 as Latin-1


@pytest.fixture(scope="module")
def eve(authority: Authority) -> Identity:
    return authority.issue("eve@example.org", key=ec.generate_private_key(ec.SECP256R1()))


@pytest.mark.parametrize(
    ("given", "written"),
    [
        (GIVEN, EncodedPassword.of(DECOMPOSED)),
        (DECOMPOSED, EncodedPassword.of(GIVEN)),
        (GIVEN, MISREAD),
        (DECOMPOSED, MISREAD),
        (GIVEN, EncodedPassword(MISREAD.bmp, GIVEN.encode())),
        (GIVEN, EncodedPassword(BMP, GIVEN.encode("latin-1"))),
        (DECOMPOSED, EncodedPassword(EncodedPassword.of(DECOMPOSED).bmp, GIVEN.encode())),
        (GIVEN, EncodedPassword.of(GIVEN.encode("cp850").decode("latin-1"))),
        (GIVEN, EncodedPassword(EncodedPassword.of(GIVEN.encode("cp850").decode("latin-1")).bmp, GIVEN.encode("cp850"))),
        ("50 €-Stück", EncodedPassword(EncodedPassword.of("50 €-Stück").bmp, "50 €-Stück".encode("cp1252"))),
        ("50 €-Stück", EncodedPassword.of("50 €-Stück".encode().decode("cp1252"))),
        (GIVEN.encode().decode("cp1252"), EncodedPassword.of(GIVEN)),
        ("geheim", EncodedPassword(EncodedPassword.of("geheim").bmp, EncodedPassword.of("geheim").bmp)),
        ("geheim", EncodedPassword.of("geheim\n")),
        ("geheim", EncodedPassword.of("geheim\r\n")),
        ("geheim \t", EncodedPassword.of("geheim")),
        (f"{GIVEN}\n", EncodedPassword.of(DECOMPOSED)),
    ],
    ids=[
        "NFD",
        "NFC",
        "UTF-8 as Latin-1",
        "NFC as UTF-8 as Latin-1",
        "OpenSSL 1.0",
        "Latin-1 octets",
        "GnuTLS",
        "cp850 as Latin-1",
        "OpenSSL in a console of Windows",
        "cp1252 octets",
        "UTF-8 as cp1252",
        "a misread list",
        "old NSS",
        "line end",
        "line end of Windows",
        "trailing blanks",
        "NFD and line end",
    ],
)
def test_it_opens_however_the_password_was_spelled(eve: Identity, given: str, written: EncodedPassword) -> None:
    data = pfx(eve, written)
    assert [one.leaf for one in opened(data, given).identities] == [eve.der]
    assert [one.leaf for one in opened(data, "another", given).identities] == [eve.der]
    again = opened(data, given, expected_sha256=hashlib.sha256(eve.der).hexdigest())
    assert [one.key is not None for one in again.identities] == [True]


@pytest.mark.parametrize("wrong", ["Grusse-a-Zoe", "grüße-à-zoë", "Grüße-à-Zo", "Grüße-à-Zoë-", ""])
def test_a_different_password_does_not_open_it(eve: Identity, wrong: str) -> None:
    for written in (EncodedPassword.of(GIVEN), MISREAD, EncodedPassword(BMP, GIVEN.encode("latin-1"))):
        assert refused(pfx(eve, written), wrong) == CheckId.WRONG_PASSWORD


def test_octets_that_fit_nothing_are_a_wrong_password(eve: Identity) -> None:
    assert refused(pfx(eve, EncodedPassword(BMP, b"\xff something else")), GIVEN) == CheckId.WRONG_PASSWORD


def test_all_passwords_as_given_come_first() -> None:
    given = [GIVEN, "ascii", f"{DECOMPOSED} "]
    assert candidates([*map(Secret, given)])[:3] == [*map(EncodedPassword.of, given)]


def test_a_list_of_wrong_ascii_passwords_costs_one_attempt_each(eve: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    monkeypatch.setattr(Mac, "fits", lambda _self, word, _content: bool(tried.append(word)))
    opened(pfx(eve, EncodedPassword.of(GIVEN)), *(f"wrong {number}" for number in range(200)))
    assert len(tried) == 200


@given(st.text(min_size=1), st.integers(1, 9))
def test_no_password_is_tried_in_more_than_a_few_ways(text: str, number: int) -> None:
    found = candidates([Secret(text + str(each)) for each in range(number)])
    ways = 1 if text.isascii() else 8
    assert len(found) <= number * (ways + 2 * (number <= FEW))
    assert all(len(with_octets(word)) <= 6 for word in found)


def test_the_spellings_of_a_password_together_take_no_longer_than_a_file_may(eve: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    other = EncodedPassword.of("something else").utf8
    key = data(wrap(SEQUENCE, bag(SHROUDED, shrouded(private_key(eve), other, 40_000))))  # 0.01 s for each form of the password
    content = whole([encrypted(wrap(SEQUENCE), other, 40_000), key], EncodedPassword.of("Grüße €"))
    derived = []
    real = pbe.pbkdf2
    monkeypatch.setattr(pbe, "pbkdf2", lambda *how: derived.append(how) or real(*how))
    (problem,) = opened(content, "Grüße €", limits=Limits(open_seconds=0.035)).problems
    assert len(derived) == 3
    assert problem.check is CheckId.TOO_COSTLY
    assert problem.message == "none of the forms of its password that could be tried in 0.035 s opens its content"
    assert "limits.open_seconds" in str(problem.hint)


@pytest.mark.parametrize(("allowed", "tried"), [(0.1, 1), (0.13, 2)])
def test_even_two_passwords_are_tried_only_where_there_is_time(monkeypatch: pytest.MonkeyPatch, allowed: float, tried: int) -> None:
    content = whole([data(wrap(SEQUENCE))], EncodedPassword.of(GIVEN), rounds=100_000)  # 0.06 s for a password
    seen = []
    monkeypatch.setattr(Mac, "fits", lambda _self, word, _content: bool(seen.append(word)))
    assert refused(content, "one", "two", limits=Limits(open_seconds=allowed)) is CheckId.WRONG_PASSWORD
    assert len(seen) == tried


def test_wrong_passwords_take_half_of_the_time_that_a_file_has(eve: Identity, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []
    data = pfx(eve, EncodedPassword.of(GIVEN), rounds=100_000)  # about 0.06 s for a password
    monkeypatch.setattr(Mac, "fits", lambda _self, word, _content: bool(tried.append(word)))
    result = opened(data, *(f"wrong {number}" for number in range(500)), limits=Limits(open_seconds=2.05))
    assert len(tried) == 16
    (problem,) = result.problems
    assert problem.message == "none of the first 16 of 500 passwords opens it; each takes 0.06 s"
    assert "its own password" in str(problem.hint)
