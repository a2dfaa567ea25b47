"""What the program can be connected to: one family for each port, one module for each kind.

A new adapter is one new module and one line here. The contract tests run every kind that is listed.
"""

from __future__ import annotations

from collections.abc import Mapping

REGISTRY: Mapping[str, Mapping[str, str]] = {  # family -> kind, as the configuration names it -> module
    "directories": {"folder": "folder", "ldap": "ldap"},
    "rosters": {"csv": "csv", "graph": "graph", "ldap": "ldap"},
    "sources": {"files": "files"},
    "trackers": {"graph": "sent_items", "trace": "message_trace"},
    "transports": {"folder": "folder", "graph": "graph", "smtp": "smtp"},
}


def module_name(family: str, kind: str) -> str:
    """The dotted name of the module of a kind. Raises KeyError where there is none."""
    return f"{__name__}.{family}.{REGISTRY[family][kind]}"
