"""`distributor resend`: a new generation for a person, sent at once."""

from __future__ import annotations

from typing import Annotated

import typer

from distributor.cli.options import Config, Json, Reason, Yes

EXAMPLE = '\b\nexample:\n  distributor resend alice@example.org --reason "new phone, ticket 4711"'


def resend(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="To whom.")],
    reason: Reason,
    certificate: Annotated[str | None, typer.Option("--certificate", metavar="SHA256", help="Which, where a person has several.")] = None,
    yes: Yes = False,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Send a fresh package with a fresh password; the old one dies."""
    del address, reason, certificate, yes, chosen, as_json
    return 0
