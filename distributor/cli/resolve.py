"""`distributor resolve`: ambiguous deliveries, with their evidence, and a person's word about them."""

from __future__ import annotations

from typing import Annotated

import typer

from distributor.cli.options import Config, Json

EXAMPLE = '\b\nexample:\n  distributor resolve d-01JX... --accepted --reason "the mail log of mx1 has it"'


def resolve(
    delivery: Annotated[str | None, typer.Argument(metavar="[DELIVERY]", help="Which; default: list all that are ambiguous.")] = None,
    accepted: Annotated[bool, typer.Option("--accepted", help="The server has the letter.")] = False,
    again: Annotated[bool, typer.Option("--again", help="The server does not have it: send the same letter again.")] = False,
    reason: Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="How you know; it is kept in the ledger.")] = None,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """List ambiguous deliveries with their evidence, or settle one."""
    del delivery, accepted, again, reason, chosen, as_json
    return 0
