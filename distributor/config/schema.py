"""The settings as frozen dataclasses. An adapter's table (`[transport]`, `[[sources]]`) is kept as written: `Table`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from distributor.config.secrets import SecretRef
from distributor.model.certificates import Limits
from distributor.model.passwords import ALPHABET, PasswordPolicy
from distributor.model.people import Address


class Profile(StrEnum):
    """How a package is encrypted."""

    PHONE = "phone"
    MODERN = "modern"


@dataclass(frozen=True, slots=True)
class Organisation:
    """`[organisation]`; the first of `languages` is the fall-back."""

    name: str
    languages: tuple[str, ...] = ("en",)


@dataclass(frozen=True, slots=True)
class Sender:
    """`[sender]`: the mailbox that messages are sent from."""

    address: Address
    name: str = ""


@dataclass(frozen=True, slots=True)
class SenderMailbox:
    """`[[senders]]`: another mailbox that messages are sent from; its name defaults to that of `[sender]`."""

    address: Address
    name: str = ""
    username: str | None = None
    password: SecretRef | None = None


@dataclass(frozen=True, slots=True)
class Package:
    """`[package]`: what goes into the PFX, and how it is encrypted."""

    profile: Profile = Profile.PHONE
    include_root: bool = False


@dataclass(frozen=True, slots=True)
class Password:
    """`[password]`: how passwords are made and handed over."""

    channel: str = "reveal"
    expires: timedelta = timedelta(days=14)
    alphabet: str = ALPHABET
    groups: int = 5
    length: int = 5  # characters a group

    @property
    def recipe(self) -> PasswordPolicy:
        """The policy that passwords are made by."""
        return PasswordPolicy(self.alphabet, self.groups, self.length)


@dataclass(frozen=True, slots=True)
class VaultKeys:
    """`[vault]`: the public keys that passwords are sealed to, and the identity that opens them."""

    recipients: tuple[str, ...]
    identity: SecretRef | None = None


@dataclass(frozen=True, slots=True)
class LedgerPlace:
    """`[ledger]`: its URL; a relative SQLite path is relative to distributor.toml."""

    url: str = "sqlite:///distributor.db"
    lease: timedelta = timedelta(seconds=60)


class TrustSeverity(StrEnum):
    """Whether failed chain and CRL checks are errors or warnings."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class TrustSettings:
    """`[trust]`: what Exchange Online trusts, a `.sst` or a folder of PEM files, and how strictly certificates are checked against it."""

    collection: Path
    severity: TrustSeverity = TrustSeverity.ERROR
    private_addresses: bool = False  # CRLs and AIA on private or loopback addresses too


@dataclass(frozen=True, slots=True)
class SourceFiles:
    """`[[sources]]` of kind files: certificates, their passwords, and the roster of their people."""

    path: Path
    passwords: Path | None = None
    roster: Path | None = None


@dataclass(frozen=True, slots=True)
class Table:
    """An adapter's table: its kind and its other keys as written."""

    kind: str
    values: Mapping[str, object]
    key: str  # dotted, such as "transport" or "sources[1]"


@dataclass(frozen=True, slots=True)
class Provenance:
    """An effective value as it would be written, and where it comes from."""

    value: object
    origin: str


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole configuration."""

    file: Path
    organisation: Organisation
    sender: Sender
    transport: Table
    vault: VaultKeys
    package: Package = field(default_factory=Package)
    password: Password = field(default_factory=Password)
    ledger: LedgerPlace = field(default_factory=LedgerPlace)
    limits: Limits = field(default_factory=Limits)
    senders: tuple[SenderMailbox, ...] = ()  # beside `sender`
    trust: TrustSettings | None = None
    sources: tuple[Table, ...] = ()
    trackers: tuple[Table, ...] = ()
    rosters: tuple[Table, ...] = ()
    directories: tuple[Table, ...] = ()
    origins: Mapping[str, Provenance] = field(default_factory=dict)

    @property
    def mailboxes(self) -> tuple[Sender, ...]:
        """Every mailbox that sends, `[sender]` first."""
        others = (Sender(other.address, other.name or self.sender.name) for other in self.senders)
        return (self.sender, *others)

    @property
    def folder(self) -> Path:
        """The folder that relative paths are relative to."""
        return self.file.parent
