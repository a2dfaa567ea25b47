"""Passwords are sealed by whoever has the public key and opened by whoever has the identity."""

from __future__ import annotations

import pickle

import pytest

from distributor.errors import InvalidInput
from distributor.model.secret import Secret
from distributor.vault import AgeVault, make_identity, seal


def test_what_is_sealed_for_a_public_key_is_opened_by_its_identity() -> None:
    identity, public = make_identity()
    assert public.startswith("age1")
    sealed = seal([public])(Secret("abcde-fghjk"), "d-1")
    assert b"abcde" not in sealed
    assert AgeVault(identity).open(sealed, "d-1") == Secret("abcde-fghjk")
    assert AgeVault(identity).recipients == [public]


def test_every_recipient_opens_what_was_sealed_for_several() -> None:
    (first, first_key), (second, second_key) = make_identity(), make_identity()
    sealed = seal([first_key, second_key])(Secret("abcde"), "d-1")
    assert [AgeVault(identity).open(sealed, "d-1").reveal() for identity in (first, second)] == ["abcde", "abcde"]


def test_sealing_goes_into_worker_processes() -> None:
    identity, public = make_identity()
    copy = pickle.loads(pickle.dumps(seal([public])))  # noqa: S301  our own bytes
    assert AgeVault(identity).open(copy(Secret("abcde"), "d-1"), "d-1") == Secret("abcde")


def test_an_identity_file_may_hold_remarks_and_several_keys() -> None:
    (first, key), (second, _) = make_identity(), make_identity()
    text = Secret(f"# created: today\n# public key: {key}\n{second.reveal()}\n\n{first.reveal()}\n")
    assert AgeVault(text).open(seal([key])(Secret("abcde"), "d-1"), "d-1") == Secret("abcde")


@pytest.mark.parametrize("sealed", [b"", b"garbage", b"age-encryption.org/v1\n"])
def test_garbage_is_refused_in_words(sealed: bytes) -> None:
    identity, _ = make_identity()
    with pytest.raises(InvalidInput, match="another identity, or is damaged"):
        AgeVault(identity).open(sealed, "d-1")


def test_another_identity_opens_nothing() -> None:
    _, public = make_identity()
    other, _ = make_identity()
    with pytest.raises(InvalidInput, match="another identity") as refused:
        AgeVault(other).open(seal([public])(Secret("abcde"), "d-1"), "d-1")
    assert refused.value.__cause__ is None


@pytest.mark.parametrize("text", ["", "# nothing\n", "AGE-SECRET-KEY-1WRONG", "hello"])
def test_a_file_that_holds_no_identity_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        AgeVault(Secret(text))
    assert refused.value.hint
    assert "WRONG" not in f"{refused.value} {refused.value.hint}"


@pytest.mark.parametrize("keys", [[], ["age1wrong"], ["ssh-ed25519 AAAA"]])
def test_public_keys_are_checked_before_anything_is_sealed(keys: list[str]) -> None:
    with pytest.raises(InvalidInput, match=r"public key"):
        seal(keys)


def test_a_password_opens_for_its_own_delivery_only() -> None:
    identity, public = make_identity()
    sealed = seal([public])(Secret("abcde"), "d-1")
    for other in ("d-2", "d-", "d-1\nabcde", ""):
        with pytest.raises(InvalidInput, match="belongs to another delivery") as refused:
            AgeVault(identity).open(sealed, other)
        assert "abcde" not in f"{refused.value.message} {refused.value.hint}"
    assert "distributor resend" in str(refused.value.hint)


def test_an_envelope_says_nothing_of_its_delivery_from_outside() -> None:
    identity, public = make_identity()
    sealed = seal([public])(Secret("abcde"), "d-01M86CH3M0WR83D9B8YVPZ52GY")
    assert b"01M86CH3" not in sealed
    assert AgeVault(identity).open(sealed, "d-01M86CH3M0WR83D9B8YVPZ52GY") == Secret("abcde")
