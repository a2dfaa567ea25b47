"""distributor.toml -> frozen settings, references to secrets, and where each value came from."""

from __future__ import annotations

from distributor.config.reading import NAME, find, read
from distributor.config.secrets import SecretRef
from distributor.config.settings import Organisation, Package, Password, Sender, Settings, Table
from distributor.config.tables import Rooms

__all__ = ["NAME", "Organisation", "Package", "Password", "Rooms", "SecretRef", "Sender", "Settings", "Table", "find", "read"]
