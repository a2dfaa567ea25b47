"""Adapters to services and files: one family for each port, one module per kind.

A new adapter is one new module and one line here. The contract tests run every kind that is listed.
"""

from __future__ import annotations

from collections.abc import Mapping

_HERE = __name__
REGISTRY: Mapping[str, Mapping[str, str]] = {  # family -> kind, as the configuration names it -> module
    "channels": {
        "letter": f"{_HERE}.channels.letter",
        "mail": f"{_HERE}.channels.mail",
        "reveal": "distributor.workflows.reveal",  # it needs no service, so it is no adapter
    },
    "directories": {"folder": f"{_HERE}.directories.folder", "ldap": f"{_HERE}.directories.ldap"},
    "intune": {"graph": f"{_HERE}.intune"},
    "rosters": {"csv": f"{_HERE}.rosters.csv", "graph": f"{_HERE}.rosters.graph", "ldap": f"{_HERE}.rosters.ldap"},
    "sources": {"files": f"{_HERE}.sources.files"},
    "trackers": {
        "graph": f"{_HERE}.trackers.sent_items",
        "imap": f"{_HERE}.trackers.imap",
        "trace": f"{_HERE}.trackers.message_trace",
    },
    "transports": {
        "folder": f"{_HERE}.transports.folder",
        "graph": f"{_HERE}.transports.graph",
        "smtp": f"{_HERE}.transports.smtp",
    },
}
