"""A backend of the library `keyring` that keeps passwords in the file $KEYRING_FILE: chosen by PYTHON_KEYRING_BACKEND."""

from __future__ import annotations

import json
import os
from pathlib import Path

from keyring.backend import KeyringBackend
from keyring.errors import PasswordDeleteError, PasswordSetError


class FileKeyring(KeyringBackend):
    """Passwords by `service/name`; one that is read-only refuses to be written, as a locked keyring does."""

    priority = 1

    def get_password(self, service: str, username: str) -> str | None:
        """The password, if there is one."""
        return self._read().get(f"{service}/{username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        """Replace a password."""
        if os.environ.get("KEYRING_LOCKED"):
            raise PasswordSetError("the keyring is locked")
        self._path().write_text(json.dumps({**self._read(), f"{service}/{username}": password}), encoding="utf-8")

    def delete_password(self, service: str, username: str) -> None:
        """Not needed here."""
        raise PasswordDeleteError(f"{service}/{username}")

    def _read(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self._path().read_text(encoding="utf-8"))
        return found

    def _path(self) -> Path:
        return Path(os.environ["KEYRING_FILE"])
