"""`distributor password reveal`: a password, once, after the ledger knows."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Reason

if TYPE_CHECKING:
    from distributor.core.secret import Secret

app = typer.Typer(help="Passwords of packages that were accepted.", no_args_is_help=True)
CLEAR = "\x1b[?1049l"  # leaves the other screen of the terminal, and nothing of it in the scroll-back
OPEN = "\x1b[?1049h\x1b[2J\x1b[H"


@app.callback()
def _group() -> None:
    """Passwords of packages that were accepted."""


@app.command(epilog='\b\nexample:\n  distributor password reveal alice@example.org --reason "called from her desk phone, ticket 4711"')
def reveal(
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Whose.")],
    reason: Reason,
    stdout: Annotated[bool, typer.Option("--stdout", help="Print it alone on a line, for pipes.")] = False,
    certificate: Annotated[str | None, typer.Option("--certificate", metavar="SHA256", help="Which, where a person has several.")] = None,
    chosen: Config = None,
) -> None:
    """Show a ready password once; the ledger has it before the screen."""
    from distributor import wiring
    from distributor.errors import Misuse

    why, key = wiring.reason(reason), wiring.address_key(address)
    if not stdout and not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise Misuse("a password is shown on a terminal only", hint="add --stdout to print it into a pipe; it is not used up yet")
    settings = wiring.settings(chosen)
    with wiring.writing(settings) as ledger:
        road = wiring.adapter("channels", "reveal").open(None, ledger, wiring.vault(settings))
        password = road.hand_over(road.choose(key, certificate), why)
    if stdout:
        sys.stdout.write(password.reveal() + "\n")
    else:
        _show(address, password)


def _show(address: str, password: Secret) -> None:
    """Large, in its groups, and gone after Enter."""
    from distributor.cli.prompt import wait_for_enter
    from distributor.cli.show import BOLD, coloured, foreign, say

    spelled = "   -   ".join(" ".join(group) for group in password.reveal().split("-"))
    sys.stdout.write(f"{OPEN}\n  {foreign(address)}\n\n      {coloured(password.reveal(), BOLD)}\n\n      {spelled}\n\n")
    sys.stdout.write("  Read it out, hyphens included. It is shown once; press Enter to clear the screen.\n")
    sys.stdout.flush()
    try:
        wait_for_enter()
    finally:
        sys.stdout.write(CLEAR)
        sys.stdout.flush()
    say(f"{foreign(address)}: handed over; forgotten? distributor resend {foreign(address)} --reason TEXT")
