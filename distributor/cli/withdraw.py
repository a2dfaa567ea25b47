"""`distributor withdraw`: takes planned and queued deliveries back."""

from __future__ import annotations

from typing import Annotated

import typer

from distributor.cli.options import Config, Reason

EXAMPLE = '\b\nexample:\n  distributor withdraw d-01JX... --reason "left the company"'


def withdraw(
    deliveries: Annotated[list[str], typer.Argument(metavar="DELIVERY", help="As `distributor status` shows them.")],
    reason: Reason,
    chosen: Config = None,
) -> int:
    """Take planned or queued deliveries back.

    The message leaves the outbox and its password is destroyed.
    """
    from distributor import bootstrap
    from distributor.cli.render import escape, stderr_line, stdout_line
    from distributor.errors import RequestDenied

    refused = 0
    with bootstrap.open_for_writing(bootstrap.settings(chosen)) as ledger:
        for delivery in deliveries:
            try:
                ledger.withdraw(delivery, bootstrap.reason(reason))
            except RequestDenied as error:
                refused += 1
                stderr_line(f"error: {escape(error)}\nhint: {escape(error.hint)}")
            else:
                stdout_line(f"{delivery}  withdrawn")
    return 1 if refused else 0
