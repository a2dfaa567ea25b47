from __future__ import annotations

import itertools
import math
import re
import secrets
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.model.passwords import ALPHABET, FLOOR, LONGEST, PasswordPolicy, check, make


def in_turn() -> Callable[[Sequence[str]], str]:
    """Chance that can be foretold."""
    numbers = itertools.count()
    return lambda characters: characters[next(numbers) % len(characters)]


def test_the_default_is_five_groups_of_five_letters_that_nobody_mistakes() -> None:
    assert make(PasswordPolicy(), in_turn()).reveal() == "abcde-fghjk-mnpqr-stuvw-xyzab"
    assert re.fullmatch(r"[a-hjkmnp-z]{5}(-[a-hjkmnp-z]{5}){4}", make(PasswordPolicy(), secrets.choice).reveal())
    assert not set("ilo") & set(ALPHABET)


def test_the_default_is_as_strong_as_the_baseline_requirements_ask() -> None:
    assert 112 <= PasswordPolicy().bits == pytest.approx(25 * math.log2(23))


def test_every_message_comes_from_the_given_chance() -> None:
    asked: list[str] = []

    def choose(messages: Sequence[str]) -> str:
        asked.append("".join(messages))
        return messages[0]

    assert make(PasswordPolicy(), choose).reveal() == "-".join(["aaaaa"] * 5)
    assert asked == [ALPHABET] * 25


def test_the_shape_shows_length_and_hyphens_and_nothing_else() -> None:
    assert PasswordPolicy("0123456789", 8, 4).shape == "xxxx-xxxx-xxxx-xxxx-xxxx-xxxx-xxxx-xxxx"


@pytest.mark.parametrize(
    ("recipe", "key"),
    [
        (PasswordPolicy(groups=4, length=5), "groups"),  # 90 bits
        (PasswordPolicy("0123456789", 5, 5), "groups"),
        (PasswordPolicy("ab", 8, 6), "groups"),
        (PasswordPolicy(groups=0), "groups"),
        (PasswordPolicy(length=-1), "groups"),
        (PasswordPolicy(groups=13, length=5), "groups"),
        (PasswordPolicy(length=10**11), "groups"),
        (PasswordPolicy(groups=10**11), "groups"),
        (PasswordPolicy(""), "alphabet"),
        (PasswordPolicy("a"), "alphabet"),
        (PasswordPolicy("abcabc"), "alphabet"),
        (PasswordPolicy("abcdefg hjk"), "alphabet"),
        (PasswordPolicy("abcdefgü"), "alphabet"),
        (PasswordPolicy("abcdefg-"), "alphabet"),
        (PasswordPolicy("=abcdefg"), "alphabet"),
        (PasswordPolicy("+abcdefg"), "alphabet"),
        (PasswordPolicy("@abcdefg"), "alphabet"),
        (PasswordPolicy("abc'\""), "alphabet"),
        (PasswordPolicy("abc\n"), "alphabet"),
        (PasswordPolicy("abc\x7f"), "alphabet"),
        (PasswordPolicy("abc😀"), "alphabet"),
    ],
)
def test_a_recipe_that_is_weak_or_does_not_survive_typing_is_refused_with_its_key(recipe: PasswordPolicy, key: str) -> None:
    fault = check(recipe)
    assert fault is not None
    assert key == fault.key
    assert fault.hint
    assert fault.reason.isascii()
    with pytest.raises(ValueError, match=re.escape(fault.reason)):
        make(recipe, secrets.choice)


@given(st.text(alphabet=st.characters(codec="ascii"), max_size=40), st.integers(-1, 12), st.integers(-1, 12))
def test_whatever_passes_is_strong_printable_and_no_formula(alphabet: str, groups: int, length: int) -> None:
    recipe = PasswordPolicy(alphabet, groups, length)
    if check(recipe) is None:
        password = make(recipe, secrets.choice).reveal()
        assert recipe.bits >= FLOOR
        assert re.fullmatch(r"[!-~]+", password)
        assert password[0] not in "-=+@"
        assert "--" not in password
        assert len(password) == len(recipe.shape) <= LONGEST
