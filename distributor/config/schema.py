"""The settings as frozen dataclasses. An adapter's table (`[transport]`, `[[sources]]`) is kept as written: `Table`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from distributor.config.audit import AuditLog
from distributor.config.converter import ConfigErrors, ConfigFault, structure
from distributor.config.secrets import SecretRef
from distributor.errors import Error
from distributor.microsoft import is_exchange_online
from distributor.model.limits import Limits
from distributor.model.passwords import ALPHABET, PasswordPolicy
from distributor.model.people import Address, Helpdesk


class Profile(StrEnum):
    """How a package is encrypted."""

    PHONE = "phone"
    MODERN = "modern"


@dataclass(frozen=True, slots=True)
class Organisation:
    """`[organisation]`; the first of `languages` is the fall-back, and messages name the helpdesk."""

    name: str
    languages: tuple[str, ...] = ("en",)
    helpdesk: Helpdesk = field(default_factory=Helpdesk)
    colour: str = ""  # of the portal's and the letters' headings, such as "#0b5394"
    logo: Path | None = None  # an SVG or PNG file


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
    """`[password]`: how passwords are made and handed over. `to`: the roster's column with the mailbox of channel mail."""

    channel: str = "reveal"
    to: str = "alternate_email"
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


class RequestPolicy(StrEnum):
    """Whether somebody else approves a request for another copy."""

    APPROVE = "approve"
    AUTOMATIC = "automatic"


@dataclass(frozen=True, slots=True)
class Portal:
    """`[portal]`: its address, the OpenID provider that people sign in with, and who may do what (object ids, or ids of groups)."""

    url: str
    authority: str
    client_id: str
    secret: SecretRef | None = None
    administrators: tuple[str, ...] = ()
    helpdesk: tuple[str, ...] = ()
    auditors: tuple[str, ...] = ()
    requests: RequestPolicy = RequestPolicy.APPROVE
    daily: int = 3  # requests that a person may make in 24 hours
    monthly: int = 3  # and in 30 days
    forwarded: bool = False  # the address of a visitor comes from X-Forwarded-For, which the proxy in front must set


@dataclass(frozen=True, slots=True)
class MailRequests:
    """`[requests]`: requests for another copy by mail. Their policy and limits are those of `[portal]`."""

    by_mail: bool = False
    authserv_id: str = ""  # of the receiving host in Authentication-Results (RFC 8601), which proves who sent a mail
    address: Address | None = None  # where requests go, besides the mailboxes that send messages


@dataclass(frozen=True, slots=True)
class Metrics:
    """`[metrics]`: where figures for Prometheus are written, and the bearer token that the portal answers /metrics to."""

    file: Path | None = None
    token: SecretRef | None = None


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
    portal: Portal | None = None
    requests: MailRequests = field(default_factory=MailRequests)
    audit: AuditLog = field(default_factory=AuditLog)
    metrics: Metrics = field(default_factory=Metrics)
    sources: tuple[Table, ...] = ()
    trackers: tuple[Table, ...] = ()
    rosters: tuple[Table, ...] = ()
    directories: tuple[Table, ...] = ()
    intune: Table | None = None
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


# --- tables --------------------------------------------------------------------------------
# Reads the adapters' tables (`[transport]`, `[[sources]]`, `[[trackers]]` and so on) and has the adapters check them.
#
# The keys of an app registration are written once, in `[transport]`; trackers and rosters without their own take them from there.


INTUNE = "intune"  # a table with one kind, which it need not name
LISTS = ("sources", "trackers", "rosters", "directories")  # arrays of tables, named as the families of their adapters
HOST_DEFAULTS: Mapping[str, object] = {
    "connections": 3,
    "rate": "30/min",
    "daily": 10_000,
}  # Exchange Online's limits for one mailbox (facts: sending.md 4)
RESOURCES: Mapping[str, object] = {  # the audience of a token for a host of another cloud (facts: sending.md 1.6: not interchangeable)
    "smtp.office365.us": "https://outlook.office365.us",
    "outlook-dod.office365.us": "https://outlook-dod.office365.us",
    "smtp.partner.outlook.cn": "https://partner.outlook.cn",
}
PROOFS = ("certificate", "secret", "managed_identity", "assertion", "device_code")
REGISTRATION = ("tenant", "client_id", *PROOFS, "certificate_password", "login")


class AdapterKinds(Protocol):
    """The adapters of this version, so that the configuration need not import them."""

    def kinds(self, family: str) -> tuple[str, ...]:
        """The kinds of a family such as "transports" that a table may name."""
        ...

    def settings(self, family: str, kind: str) -> type[Any]:
        """The adapter's frozen dataclass of settings."""
        ...

    def fault(self, family: str, kind: str, settings: object, key: str) -> Error | None:
        """Why the adapter refuses settings of the right shape, or None; connects to nothing."""
        ...


def family_of(table: Table) -> str:
    """The family of a table's adapter."""
    return "transports" if table.key == "transport" else table.key.partition("[")[0]


def adapters(document: Mapping[str, Any], folder: Path, kinds: AdapterKinds, faults: list[ConfigFault]) -> list[Table]:
    """The tables of all adapters that have no faults, the transport first."""
    tables: list[tuple[str, str, object]] = []
    if "transport" in document:
        tables.append(("transport", "transports", document["transport"]))
    if isinstance(document.get(INTUNE), dict):
        tables.append((INTUNE, INTUNE, {"kind": "graph", **document[INTUNE]}))
    elif INTUNE in document:
        faults.append(ConfigFault(INTUNE, "not a table", "write [intune]"))
    for name in LISTS:
        entries = document.get(name, [])
        if not isinstance(entries, list):
            faults.append(ConfigFault(name, "not an array of tables", f"write [[{name}]], with two brackets"))
            continue
        tables += [(f"{name}[{n}]", name, entry) for n, entry in enumerate(entries)]
    reader = _Reader(folder, kinds, faults, _registration(document.get("transport")), _sender(document.get("sender")))
    found = [reader.table(entry, key, family) for key, family, entry in tables]
    return [table for table in found if table is not None]


def _registration(transport: object) -> Mapping[str, object]:
    """The keys of the transport's app registration."""
    if not isinstance(transport, dict):
        return {}
    oauth = transport.get("oauth")
    values = oauth if isinstance(oauth, dict) else transport
    return {name: values[name] for name in REGISTRATION if name in values} | {n: transport[n] for n in ("graph",) if n in transport}


def _sender(table: object) -> str:
    """The address of the sender, whose mailbox a tracker reads that names none."""
    address = table.get("address") if isinstance(table, dict) else None
    return address if isinstance(address, str) else ""


class _Reader:
    """Reads tables and collects their faults."""

    def __init__(
        self, folder: Path, kinds: AdapterKinds, faults: list[ConfigFault], registration: Mapping[str, object], sender: str
    ) -> None:
        self._folder, self._kinds, self._faults, self._registration, self._sender = folder, kinds, faults, registration, sender

    def table(self, entry: object, key: str, family: str) -> Table | None:
        """A table; None where it has faults."""
        if not isinstance(entry, dict):
            self._add(key, "not a table", f"write [{key.partition('[')[0]}]")
            return None
        kind = entry.get("kind")
        kinds = self._kinds.kinds(family)
        if not isinstance(kind, str) or kind not in kinds:
            message = "missing" if kind is None else f'unknown {_one(key)} "{kind}"'
            self._add(f"{key}.kind", message, f"use one of: {', '.join(kinds)}")
            return None
        shape = self._kinds.settings(family, kind)
        values = self._inherited(shape, {name: value for name, value in entry.items() if name != "kind"}, key)
        try:
            settings = structure(shape, {**host_defaults(kind, values), **values}, key, self._folder)
        except ConfigErrors as faulty:
            self._faults += faulty.faults
            return None
        if error := self._kinds.fault(family, kind, settings, key):
            self._add(error.where or key, error.message, error.hint)
            return None
        return Table(kind, values, key)

    def _inherited(self, shape: type[Any], values: dict[str, object], key: str) -> dict[str, object]:
        """The values with the transport's registration, where the table has none of its own."""
        takes = {field.name for field in fields(shape)}
        if key.startswith("trackers") and "mailbox" in takes and self._sender:
            values = {"mailbox": self._sender, **values}
        if key == "transport" or "client_id" not in takes or any(name in values for name in PROOFS):
            return values
        return {**{name: value for name, value in self._registration.items() if name in takes}, **values}

    def _add(self, key: str, message: str, hint: str | None) -> None:
        self._faults.append(ConfigFault(key, message, hint))


def host_defaults(kind: str, values: Mapping[str, object]) -> Mapping[str, object]:
    """The defaults of a known SMTP host: its limits, and its cloud's token audience."""
    host = str(values.get("host", "")).lower().rstrip(".")
    if kind != "smtp" or not (is_exchange_online(host) or host in RESOURCES):
        return {}
    return {**HOST_DEFAULTS, "resource": RESOURCES[host]} if host in RESOURCES else HOST_DEFAULTS


def _one(key: str) -> str:
    """The singular of a table's name: `trackers[0]` is a "tracker"."""
    name = key.partition("[")[0]
    return f"{name[:-3]}y" if name.endswith("ies") else name.rstrip("s")
