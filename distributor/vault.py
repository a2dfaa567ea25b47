"""Seals passwords with age to the vault's public keys, and opens them with its identity.

The plaintext has two lines, `password of d-...` and the password: a sealed password that somebody moved to another delivery is detected
when it is opened (facts: reliability.md 4). The identifier names a generation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import pyrage  # type: ignore[import-untyped]  # it has no type hints
from pyrage import x25519

from distributor.errors import InvalidInput
from distributor.model.secret import Secret

_REPLACES = "# replaces: "  # public keys, above the key that takes their place; ours, since age ignores it
_STANZA = b"\n-> X25519 "  # one for each public key, in the header of what is sealed
_PURPOSE = "password of"  # nothing else that is sealed may be taken for a password
_FOREIGN = "the ledger was modified outside distributor, no password was shown; run `distributor resend` for a new package and password"
RESTORE_KEY = "restore your copy of this key; a new key opens nothing that was sealed before"
_INIT = "run `distributor init` to create a key pair: its public key goes into `vault.recipients`, its file into `vault.identity`"


def make_identity() -> tuple[Secret, str]:
    """A new identity: its secret text and its public key (age1...)."""
    made = x25519.Identity.generate()
    return Secret(str(made)), str(made.to_public())


def add_key(text: Secret) -> Secret:
    """An identity with a new key in front, which is to replace all others; these stay until `drop_replaced`."""
    key, public = make_identity()
    old = " ".join(AgeVault(text).recipients)
    return Secret(f"# public key: {public}\n{_REPLACES}{old}\n{key.reveal()}\n{text.reveal().strip()}\n")


def drop_replaced(text: Secret) -> Secret:
    """The identity with its first key alone."""
    lines = text.reveal().splitlines()
    public = AgeVault(text).recipients[0]
    key = next(line.strip() for line in lines if line.strip() and not line.lstrip().startswith("#"))
    return Secret(f"# public key: {public}\n{key}\n")


def count_recipients(sealed: bytes) -> int:
    """How many public keys something is sealed to; the header does not say which."""
    return sealed.partition(b"\n---")[0].count(_STANZA)


@dataclass(frozen=True, slots=True)
class Seal:
    """Seals passwords to public keys; pickled into worker processes."""

    keys: tuple[str, ...]

    def __call__(self, secret: Secret, delivery: str) -> bytes:
        """The password of a delivery, sealed."""
        return bytes(pyrage.encrypt(f"{_PURPOSE} {delivery}\n{secret.reveal()}".encode(), _recipients(self.keys)))


def seal(recipients: Sequence[str]) -> Seal:
    """A Seal for these public keys. Raises InvalidInput where one is not a key."""
    made = Seal(tuple(recipients))
    _recipients(made.keys)
    return made


@lru_cache(maxsize=16)
def _recipients(keys: tuple[str, ...]) -> list[x25519.Recipient]:
    if not keys:
        raise InvalidInput("no public key is set", where="vault.recipients", hint=_INIT)
    return [_recipient(key) for key in keys]


def _recipient(key: str) -> x25519.Recipient:
    try:
        return x25519.Recipient.from_str(key)
    except pyrage.RecipientError as error:
        raise InvalidInput(f'"{key[:80]}" is not an age public key', where="vault.recipients", hint=_INIT) from error


class AgeVault:
    """Opens sealed passwords with an identity; `text` is an age identity file, where lines with # are comments."""

    def __init__(self, text: Secret) -> None:
        keys = [line.strip() for line in text.reveal().splitlines() if line.strip() and not line.lstrip().startswith("#")]
        if not keys:
            raise InvalidInput("no key found", where="vault.identity", hint=RESTORE_KEY)
        self._identities = [_identity(key) for key in keys]
        replaced = (line.removeprefix(_REPLACES).split() for line in text.reveal().splitlines() if line.startswith(_REPLACES))
        self.replaced: tuple[str, ...] = tuple(next(replaced, ()))  # public keys that the first one takes the place of: see `add_key`

    @property
    def recipients(self) -> list[str]:
        """The public keys of this identity."""
        return [str(identity.to_public()) for identity in self._identities]

    def open(self, sealed: bytes, delivery: str) -> Secret:
        """The password. Raises InvalidInput where it is sealed for another identity, or belongs to another delivery."""
        label, _, password = self._opened(sealed).partition("\n")
        if label != f"{_PURPOSE} {delivery}":
            raise InvalidInput("the sealed password belongs to another delivery", where=delivery, hint=_FOREIGN)
        return Secret(password)

    def _opened(self, sealed: bytes) -> str:
        try:
            return str(pyrage.decrypt(sealed, self._identities).decode())
        except (pyrage.DecryptError, UnicodeDecodeError):
            raise InvalidInput(
                "the password was sealed for another identity, or is damaged",
                where="vault.identity",
                hint=RESTORE_KEY,
            ) from None


def _identity(key: str) -> x25519.Identity:
    try:
        return x25519.Identity.from_str(key)
    except pyrage.IdentityError:
        raise InvalidInput("not an age identity", where="vault.identity", hint=RESTORE_KEY) from None
