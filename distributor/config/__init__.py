"""Reads distributor.toml into frozen settings, with references to secrets and the origin of each value."""

from __future__ import annotations

from distributor.config.loader import NAME, find, read
from distributor.config.schema import AdapterKinds, MailRequests, Organisation, Package, Password, Sender, Settings, Table
from distributor.config.secrets import SecretRef

__all__ = [
    "NAME",
    "AdapterKinds",
    "MailRequests",
    "Organisation",
    "Package",
    "Password",
    "SecretRef",
    "Sender",
    "Settings",
    "Table",
    "find",
    "read",
]
