"""Registered apps: what they prove themselves with, what they may do and where; and the resources that Entra knows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cryptography import x509

OUTLOOKS = frozenset({"https://outlook.office365.com", "https://outlook.office.com"})
GRAPH = "https://graph.microsoft.com"

# What a permission is covered by besides itself.
COVERED_BY = {
    "Mail.Read": {"Mail.ReadWrite"},
    "User.Read.All": {"User.ReadWrite.All", "Directory.Read.All"},
    "GroupMember.Read.All": {"GroupMember.ReadWrite.All", "Group.Read.All", "Group.ReadWrite.All", "Directory.Read.All"},
    "DeviceManagementApps.Read.All": {"DeviceManagementApps.ReadWrite.All"},
    "DeviceManagementConfiguration.Read.All": {"DeviceManagementConfiguration.ReadWrite.All"},
}


def covers(granted: set[str], wanted: str) -> bool:
    return bool(granted & ({wanted} | COVERED_BY.get(wanted, set())))


@dataclass(frozen=True)
class Federated:
    """A trusted issuer of assertions: its key (PEM), and what has to stand in them."""

    issuer: str
    subject: str
    key: str
    audience: str = "api://AzureADTokenExchange"


@dataclass
class App:
    """`managed` is "", "system" or "user".

    `roles` were consented to in Entra: the token names them, and they hold in every mailbox, unless an application access policy names the
    only `mailboxes` (None: there is no policy). `exchange_roles` are what Exchange grants by RBAC for Applications, by mailbox: no token
    names them. Both add up (facts: sending.md 1.7).
    """

    id: str
    tenant: str
    name: str = "distributor"
    secrets: dict[str, float | None] = field(default_factory=dict)  # secret -> when it expires
    certificates: list[x509.Certificate] = field(default_factory=list)
    sha1_thumbprints: bool = False
    federated: list[Federated] = field(default_factory=list)
    roles: list[str] = field(default_factory=list)
    outlook_roles: list[str] = field(default_factory=list)
    delegated: list[str] = field(default_factory=list)
    mailboxes: list[str] | None = None
    exchange_roles: dict[str, list[str]] = field(default_factory=dict)
    consented: bool = True
    enabled: bool = True
    managed: str = ""

    def roles_at(self, resource: str) -> list[str]:
        return self.outlook_roles if resource in OUTLOOKS else self.roles

    def reaches(self, mailbox: str) -> bool:
        return self.mailboxes is None or mailbox in {one.lower() for one in self.mailboxes}

    def granted_in(self, mailbox: str) -> set[str]:
        return {role for address, roles in self.exchange_roles.items() if address.lower() == mailbox for role in roles}


SIMPLE = ("name", "roles", "outlook_roles", "delegated", "mailboxes", "exchange_roles")
SIMPLE += ("consented", "enabled", "managed", "sha1_thumbprints")


def change(app: App, given: dict[str, Any]) -> None:
    """Set what was given; secrets, certificates and federated issuers replace what was there."""
    for name in SIMPLE:
        if name in given:
            setattr(app, name, given[name])
    if "secrets" in given:
        app.secrets = dict(given["secrets"])
    if "certificates" in given:
        app.certificates = [x509.load_pem_x509_certificate(text.encode()) for text in given["certificates"]]
    if "federated" in given:
        app.federated = [Federated(**one) for one in given["federated"]]
