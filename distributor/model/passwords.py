"""Generates passwords that can be typed on a phone, by a policy (alphabet, groups, characters in a group), and computes their strength."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from distributor.model.secret import Secret

ALPHABET = "abcdefghjkmnpqrstuvwxyz"  # without i, l and o: nothing to mistake, and no keyboard to switch
FLOOR = 96.0  # bits; a guess against a package's MAC is cheap, so entropy is the only defence (facts: reliability.md 0.2)
LONGEST = 63  # characters with hyphens; some importers cut what is longer
_SPOILED = "-=+@'\" "  # a separator; what a table takes for a formula; what phones turn into other quotes; what is lost at an edge


@dataclass(frozen=True, slots=True)
class PasswordPolicy:
    """How passwords are made. The default has 113 bits (CA/B S/MIME BR 6.1.2 asks for 112)."""

    alphabet: str = ALPHABET
    groups: int = 5
    length: int = 5  # characters a group

    @property
    def bits(self) -> float:
        """Entropy in bits."""
        return self.groups * self.length * math.log2(len(self.alphabet)) if self.alphabet else 0.0

    @property
    def plain(self) -> bool:
        """Whether it has lower-case letters only."""
        return self.alphabet.isalpha() and self.alphabet.islower()

    @property
    def shape(self) -> str:
        """The pattern of a password, such as `xxxxx-xxxxx`."""
        return "-".join(["x" * self.length] * self.groups)


@dataclass(frozen=True, slots=True)
class BadPolicy:
    """Why a policy is refused. `key` is the setting to change."""

    key: str
    reason: str
    hint: str


def check(recipe: PasswordPolicy) -> BadPolicy | None:
    """Why a policy is refused; None when it is good."""
    if fault := _alphabet_fault(recipe.alphabet):
        return BadPolicy("alphabet", fault, "list each character once; letters and digits are easiest to type")
    if min(recipe.groups, recipe.length) < 1:
        return BadPolicy("groups", "groups and length must be at least 1", "remove both for five groups of five")
    characters = recipe.groups * (recipe.length + 1) - 1
    if characters > LONGEST:
        return BadPolicy("groups", f"{characters} characters are more than the limit of phones ({LONGEST})", "use fewer or shorter groups")
    if recipe.bits < FLOOR:
        needed = math.ceil(FLOOR / math.log2(len(recipe.alphabet)))
        return BadPolicy("groups", f"{recipe.bits:.0f} bits are too few (at least {FLOOR:.0f})", f"use at least {needed} characters in all")
    return None


def _alphabet_fault(alphabet: str) -> str | None:
    strange = sorted({c for c in alphabet if not "!" <= c <= "~" or c in _SPOILED})
    if strange:
        return "the alphabet has characters that are easily garbled: " + ascii("".join(strange))
    if len(set(alphabet)) != len(alphabet):
        return "the alphabet has a duplicate character"
    return "the alphabet has fewer than two characters" if len(alphabet) < 2 else None  # noqa: PLR2004  one character leaves no choice


def make(recipe: PasswordPolicy, choose: Callable[[Sequence[str]], str]) -> Secret:
    """A new password; `choose` picks a character (`secrets.choice`, except in tests). ValueError where `check` refuses the policy."""
    if fault := check(recipe):
        raise ValueError(fault.reason)
    return Secret("-".join("".join(choose(recipe.alphabet) for _ in range(recipe.length)) for _ in range(recipe.groups)))
