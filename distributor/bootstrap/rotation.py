"""Replaces this host's vault key: what `vault rotate` does, step by step, each of which may be the last one before a crash.

(1) A new key comes into the identity, in front of the old one: from here on both kinds of sealed passwords can be opened.
(2) Every password is sealed to the old and the new key, and to the other recipients.
(3) `vault.recipients` names the new key instead of the old one.
(4) Every password is sealed to `vault.recipients` alone.
(5) The old key leaves the identity.
Where it stopped is read from the identity and the configuration; a step that is done already does nothing.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distributor import bootstrap, config
from distributor.config.loader import LARGEST
from distributor.config.recipients import as_toml, with_recipients
from distributor.errors import InvalidInput, UsageError
from distributor.files import atomic
from distributor.files.reader import FileRefused, read_file
from distributor.vault import AgeVault, add_key, count_recipients, drop_replaced, seal
from distributor.workers import process
from distributor.workflows import resealing

if TYPE_CHECKING:
    from distributor.model.ports import Ledger
    from distributor.model.resealing import VaultIdentity
    from distributor.model.secret import Secret
    from distributor.workflows.resealing import ResealReport, VaultContent

KEY = "vault.identity"


@dataclass(slots=True)
class Rotation:
    """A rotation, at whichever step. `output`: the file that the new identity is written to, instead of where it is read from."""

    settings: config.Settings
    identity: Secret  # with the new key in front
    output: Path | None
    written: bool  # step (1) is done

    @property
    def vault(self) -> AgeVault:
        """Opens what is sealed to the new or the old key."""
        return AgeVault(self.identity)

    @property
    def key(self) -> str:
        """The new public key."""
        return self.vault.recipients[0]

    @property
    def replaced(self) -> tuple[str, ...]:
        """The public keys that it replaces."""
        return self.vault.replaced

    @property
    def recipients(self) -> tuple[str, ...]:
        """`vault.recipients` with the new key in place of the old ones."""
        keys = (self.key if key in self.replaced else key for key in self.settings.vault.recipients)
        return tuple(dict.fromkeys(keys))

    @property
    def switched(self) -> bool:
        """Whether step (3) is done."""
        return self.settings.vault.recipients == self.recipients

    @property
    def in_use(self) -> bool:
        """Whether the identity that this host reveals with has the new key already."""
        return self.output is None or self.key in _vault(self.settings)[1].recipients

    def write_identity(self) -> None:
        """(1) The new key beside the old one, for its owner only, before anything is sealed to it. Raises InvalidInput."""
        if self.written:
            return
        if self.output is None:
            _reference(self.settings).store(self.identity, KEY)
        else:
            _write(self.output, self.identity)
        self.written = True

    def reseal(self, ledger: Ledger, recipients: Sequence[str]) -> ResealReport:
        """(2) and (4) Seal every password to these keys."""
        return resealing.reseal(ledger, self.vault, seal(recipients), recipients)

    def switch(self) -> bool:
        """(3) Change distributor.toml; False where a person must, since it is not ours to write or written in an unusual way."""
        if self.switched:
            return True
        file = self.settings.file
        try:
            text = read_file(file, LARGEST, follow=True).decode()
            changed = with_recipients(text, self.recipients, self.replaced)
            if changed is None:
                return False
            atomic.rewrite_file(file, changed.encode())
        except (OSError, FileRefused, UnicodeDecodeError):
            return False
        self.settings = bootstrap.settings(file)
        return self.switched

    def awaited(self, ledger: Ledger) -> str | None:
        """Who may still seal to the old key alone, so that (4) and (5) must wait for the next run; None where nobody does."""
        if bootstrap.ledger_file(self.settings) is None:
            return "other hosts may use this ledger"
        alive = [str(sender.pid) for sender in ledger.senders() if process.is_alive(sender)]
        return f"processes that seal to the old key still run ({', '.join(alive)})" if alive else None

    @property
    def line(self) -> str:
        """The line of distributor.toml that step (3) writes."""
        return as_toml(self.recipients)

    def finish(self) -> bool:
        """(5) The identity with the new key alone; False where a person must remove the old one."""
        for file in (self.output, _reference(self.settings).path, self.settings.file):
            _remove_parts(file)
        alone = drop_replaced(self.identity)
        if self.output is not None:
            _write(self.output, alone)
        elif _reference(self.settings).writable:
            _reference(self.settings).store(alone, KEY)
        else:
            return False
        return self.output is None


def content(ledger: Ledger, vault: VaultIdentity | None) -> VaultContent:
    """The passwords that the ledger keeps sealed; with a vault, each is opened in memory."""
    return resealing.inspect(ledger, count_recipients, vault)


def begin(settings: config.Settings, output: Path | None) -> Rotation:
    """Where this host's rotation stands; a new one where none is under way. Nothing is written yet. Raises InvalidInput, UsageError."""
    reference = _reference(settings)
    text, vault = _vault(settings)
    if vault.replaced:
        return Rotation(settings, text, output, written=True)
    if output is not None and output.exists():
        return _resumed(settings, output, vault)
    if output is None and not reference.writable:
        message = f"{reference} cannot be written by this program, so the new key needs a file"
        raise UsageError(message, where=KEY, hint="add --identity-output FILE")
    return Rotation(settings, add_key(text), output, written=False)


def _resumed(settings: config.Settings, output: Path, vault: AgeVault) -> Rotation:
    """The rotation whose new identity lies in a file since an earlier run, and is not in use yet."""
    found = config.SecretRef("file", str(output.absolute()), settings.folder).resolve("--identity-output")
    if set(AgeVault(found).replaced) != set(vault.recipients):
        hint = "name a new file"
        raise InvalidInput("this file exists and has no key that replaces the vault's", where=str(output), hint=hint)
    return Rotation(settings, found, output, written=True)


def _reference(settings: config.Settings) -> config.SecretRef:
    assert settings.vault.identity is not None  # noqa: S101  `bootstrap.vault` has refused that
    return settings.vault.identity


def _vault(settings: config.Settings) -> tuple[Secret, AgeVault]:
    bootstrap.vault(settings)  # with its errors
    with bootstrap.with_location(settings):
        text = _reference(settings).resolve(KEY)
        return text, AgeVault(text)


def _remove_parts(file: Path | None) -> None:
    """Remove what a run left that was killed while it wrote; only one process rotates, so nobody writes them now."""
    for part in () if file is None else file.resolve().parent.glob(f".{glob.escape(file.name)}.*.part"):
        part.unlink(missing_ok=True)


def _write(path: Path, identity: Secret) -> None:
    try:
        atomic.replace_file(path, identity.reveal().encode())
        atomic.sync_folder(path.absolute().parent)
    except OSError as error:
        why = (error.strerror or "cannot be written").lower()
        raise InvalidInput(why, where=str(path), hint="name a new file in a folder that you may write to") from None
