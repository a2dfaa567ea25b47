"""Resolves references to secrets (`env:NAME`, `file:PATH`, `keyring:SERVICE/NAME`, `cred:NAME`) when they are needed.

A literal is refused and never shown, so that a secret written into the configuration does not end up in a terminal's scrollback too.
A file may be a PFX, which is binary: it is armoured (`ARMOUR`), so that every secret is text.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from distributor.errors import InvalidInput
from distributor.files.atomic import PRIVATE, rewrite_file
from distributor.files.reader import FileRefused, Reason, read_file
from distributor.model.secret import Secret

SCHEMES = ("env", "file", "keyring", "cred")
ARMOUR = "PKCS12"  # the label between whose BEGIN and END a binary file comes
LARGEST_SECRET = 64 * 2**10  # bytes; a key with its chain has less
_BINARY = (b"\x30\x82", b"\x30\x83", b"\x30\x80")  # a sequence of DER, or of BER without a length; never the begin of UTF-8
REFERENCES = "write env:NAME, file:PATH, keyring:SERVICE/NAME or cred:NAME, and store the secret there"


@dataclass(frozen=True, slots=True)
class SecretRef:
    """A reference to a secret. `folder` is what `file:` is relative to."""

    scheme: str
    name: str
    folder: Path

    def __str__(self) -> str:
        return f"{self.scheme}:{self.name}"

    @property
    def path(self) -> Path | None:
        """The file of a `file:` or `cred:` reference; None for others."""
        match self.scheme:
            case "file":
                return self.folder / Path(self.name).expanduser()
            case "cred":
                folder = os.environ.get("CREDENTIALS_DIRECTORY")
                return Path(folder) / self.name if folder else None
        return None

    @property
    def writable(self) -> bool:
        """Whether `store` can change it: not an environment variable or a credential, which whoever starts the program provides."""
        return self.scheme in {"file", "keyring"}

    def store(self, secret: Secret, key: str) -> None:
        """Replace the secret, durably or not at all; a file keeps its owner and gets mode 0600. Raises InvalidInput."""
        match self.scheme:
            case "file":
                _to_file(self, secret, key)
            case "keyring":
                _to_keyring(self, secret, key)
            case _:
                raise InvalidInput(f"{self} cannot be written", where=key, hint="change it where it is provided")

    def resolve(self, key: str) -> Secret:
        """The secret, without line ends around it. `key`: the dotted key, for errors. Raises InvalidInput."""
        match self.scheme:
            case "env":
                text = _from_environment(self, key)
            case "keyring":
                text = _from_keyring(self, key)
            case _:
                text = _from_file(self, key)
        text = text.strip("\r\n")
        if not text:
            raise InvalidInput(f"{self} is empty", where=key, hint="store the secret there")
        return Secret(text)


def parse_reference(text: str, folder: Path) -> SecretRef:
    """Parse a reference. The text of a ValueError never contains it, since it may be a secret."""
    scheme, colon, name = text.partition(":")
    if not colon or scheme not in SCHEMES or not name or (scheme == "keyring" and "/" not in name.strip("/")):
        raise ValueError("a secret must be a reference, not the secret itself")
    if scheme == "cred" and ("/" in name or name in {".", ".."}):
        raise ValueError("cred: takes a plain name, not a path")
    return SecretRef(scheme, name, folder)


def exposed(path: Path) -> str | None:
    """Why others can read a file with a secret; None when only its owner can, or there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    if found.st_mode & 0o077:
        return f"{path} can be read by others (mode {found.st_mode & 0o777:04o})"
    if hasattr(os, "geteuid") and found.st_uid not in {os.geteuid(), 0}:
        return f"{path} belongs to another user"
    return None


def _from_environment(reference: SecretRef, key: str) -> str:
    text = os.environ.get(reference.name)
    if text is None:
        raise InvalidInput(
            f"environment variable {reference.name} is not set", where=key, hint=f"set {reference.name} for this command, or use file:PATH"
        )
    return text


def _from_keyring(reference: SecretRef, key: str) -> str:
    service, _, name = reference.name.rpartition("/")
    with _keyring_errors("read", key):
        import keyring  # noqa: PLC0415  an extra, and slow to load

        text = keyring.get_password(service, name)
    if text is None:
        raise InvalidInput(f'the keyring has no entry "{reference.name}"', where=key, hint=f"keyring set {service} {name}")
    return str(text)


def _to_keyring(reference: SecretRef, secret: Secret, key: str) -> None:
    service, _, name = reference.name.rpartition("/")
    with _keyring_errors("write to", key):
        import keyring  # noqa: PLC0415  as above

        keyring.set_password(service, name, secret.reveal())


@contextmanager
def _keyring_errors(do: str, key: str) -> Iterator[None]:
    try:
        yield
    except ImportError:
        raise InvalidInput(
            "keyring: needs the package `keyring`, which is not installed", where=key, hint="pip install 'distributor[keyring]'"
        ) from None
    except Exception as error:  # noqa: BLE001  each desktop's keyring fails in its own way
        raise InvalidInput(
            f"cannot {do} the keyring ({type(error).__name__})", where=key, hint="unlock the keyring, or use file:PATH"
        ) from None


def _to_file(reference: SecretRef, secret: Secret, key: str) -> None:
    assert reference.path is not None  # noqa: S101  it is a file
    try:
        rewrite_file(reference.path, secret.reveal().encode(), PRIVATE)
    except OSError as error:
        why = (error.strerror or "cannot be written").lower()
        raise InvalidInput(f'"{reference.path}": {why}', where=key, hint="make the file and its folder writable for this user") from None


def _from_file(reference: SecretRef, key: str) -> str:
    path = reference.path
    if path is None:
        raise InvalidInput("$CREDENTIALS_DIRECTORY is not set", where=key, hint="use cred: only in a systemd unit with LoadCredential=")
    try:
        data = read_file(path, LARGEST_SECRET, follow=True)
    except FileRefused as refused:
        if refused.reason is Reason.LARGE:
            hint = "name a file that contains only the secret"
            raise InvalidInput(f'"{path}" is too long for a secret (64 KiB)', where=key, hint=hint) from None
        why = "no such file" if refused.reason is Reason.MISSING else refused.message
        raise InvalidInput(f'"{path}": {why}', where=key, hint="create the file with mode 0600, or correct the reference") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        if data.startswith(_BINARY):
            return _armoured(data)
        raise InvalidInput(f'"{path}" is not UTF-8 text', where=key, hint="save the secret as plain text") from None


def _armoured(data: bytes) -> str:
    return f"-----BEGIN {ARMOUR}-----\n{base64.encodebytes(data).decode()}-----END {ARMOUR}-----"
