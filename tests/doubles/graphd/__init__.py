"""A double of Microsoft Graph and Entra: strict where the service is strict, with its limits and quirks, and faults on demand.

`graphd(folder)` starts it as a process and gives a `Cloud`, the test's handle. `verify` tells another server whether a token is ours.
"""

from __future__ import annotations

from tests.doubles.graphd.cloud import TENANT, Cloud, Refused, graphd
from tests.doubles.graphd.tokens import Unverified, verify

__all__ = ["TENANT", "Cloud", "Refused", "Unverified", "graphd", "verify"]
