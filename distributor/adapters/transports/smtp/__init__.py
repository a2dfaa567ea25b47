"""SMTP submission (RFC 5321, 6409): kept connections, each message sent command by command so that its phase is always known.

The intent is recorded in the ledger during the DATA command and is durable before the first byte of the message: until then the message
is certainly unsent; after it only a reply tells, and without one the message is ambiguous.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distributor.adapters.transports.smtp.settings import Settings, check_settings
from distributor.clients.app_registration import Tell
from distributor.model.delivery import Account

if TYPE_CHECKING:
    from distributor.adapters.transports.smtp.transport import SmtpTransport

__all__ = ["Settings", "check_settings", "open"]


def open(settings: Settings, accounts: Sequence[Account] = (), *, tell: Tell | None = None) -> SmtpTransport:  # noqa: A001  every adapter has this name
    """The transport; connects for its first message. Raises InvalidInput for a configuration that would send in clear.

    `tell` shows a person the code of a sign-in by device code.
    """
    check_settings(settings, accounts)
    from distributor.adapters.transports.smtp.transport import SmtpTransport  # noqa: PLC0415  commands that only read need none of it

    return SmtpTransport(settings, accounts, tell)
