"""`distributor password reveal`: shows a password once, after the ledger has recorded it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli import password_letters, password_mail
from distributor.cli.options import CertificateName, Config, DeliveryName, Reason, wait_for_enter
from distributor.cli.render import BOLD, STDOUT, coloured, escape, stderr_line, stop_writing
from distributor.errors import Error, Interrupted, InvalidInput, UsageError
from distributor.model.states import PasswordState

if TYPE_CHECKING:
    from distributor.model.delivery import SealedPassword
    from distributor.model.ports import Ledger
    from distributor.model.secret import Secret

EXAMPLE = '\b\nexample:\n  distributor password reveal alice@example.org --reason "called from her office phone, ticket 4711"'
app = typer.Typer(help="Reveal, print or mail passwords of accepted packages.", no_args_is_help=True, epilog=EXAMPLE)
CLEAR = "\x1b[?1049l"  # leaves the other screen of the terminal, and nothing of it in the scroll-back
OPEN = "\x1b[?1049h\x1b[2J\x1b[H"


@app.callback()
def _group() -> None:
    """Reveal, print or mail passwords of accepted packages."""


@app.command(epilog=EXAMPLE)
def reveal(
    name: DeliveryName,
    reason: Reason,
    stdout: Annotated[bool, typer.Option("--stdout", help="Print only the password, for pipes.")] = False,
    certificate: CertificateName = None,
    chosen: Config = None,
) -> None:
    """Show a password once, to be read out by phone.

    The ledger records it before it is on the screen. Forgotten later? `distributor resend` makes a new one.
    """
    from distributor import bootstrap
    from distributor.workflows import lookup
    from distributor.workflows.reveal import Reveal

    why = bootstrap.reason(reason)
    if not stdout and not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise UsageError("a password is shown on a terminal only", hint="add --stdout to print it into a pipe; it was not revealed")
    settings = bootstrap.settings(chosen)
    with _report_hand_over() as spent:
        with bootstrap.open_for_writing(settings, sends=True) as ledger:
            channel = Reveal(ledger, bootstrap.vault(settings))
            deliveries = lookup.find(ledger, name, certificate)
            spent.address = address = deliveries[0].address
            sealed = channel.choose(deliveries)
            try:
                password = channel.hand_over(sealed, why)
            finally:
                spent.yes = _is_spent(ledger, sealed)
        if stdout:
            if address.casefold() != name.strip().casefold():
                stderr_line(f"the password of {escape(address)}")
            sys.stdout.write(password.reveal() + "\n")
            sys.stdout.flush()
        else:
            show_password(address, password, "Read it out, with the hyphens.")
    if not stdout:
        _tell(address)


@dataclass(slots=True)
class HandOverStatus:
    """Whether the ledger has recorded the hand-over: from then on the password is not shown again."""

    address: str = ""
    yes: bool = False


def _is_spent(ledger: Ledger, wanted: SealedPassword) -> bool:
    """Asks the ledger, since an interrupt may have come between its commit and our knowing of it."""
    delivery = ledger.delivery(wanted.delivery)
    return delivery is not None and delivery.password_state is PasswordState.HANDED_OVER


@contextmanager
def _report_hand_over() -> Iterator[HandOverStatus]:
    """Once the password is handed over, the last line says so and how to get a new one, however the command ends."""
    spent = HandOverStatus()
    try:
        yield spent
    except KeyboardInterrupt:
        if not spent.yes:
            raise
        raise Interrupted("interrupted", hint=_handed_over(spent.address)) from None
    except Error as error:
        if not spent.yes:
            raise
        hint = "; ".join(filter(None, (error.hint, _handed_over(spent.address))))
        raise type(error)(error.message, where=error.where, hint=hint) from error
    except OSError as error:
        if not spent.yes:
            raise
        reason, what = (error.strerror or "input or output failed").lower(), "may not have been shown"
        if error.filename == STDOUT:
            stop_writing(sys.stdout)
            what = "cannot be written"
        raise InvalidInput(f"the password {what}: {reason}", where=error.filename, hint=_handed_over(spent.address)) from None


def _handed_over(address: str) -> str:
    return f"{address}: password revealed; if it is lost: distributor resend {address} --reason TEXT"


def _tell(address: str) -> None:
    stderr_line(escape(_handed_over(address)))


def show_password(title: str, password: Secret, advice: str) -> None:
    """Show it in groups until Enter; whatever ends the program clears the screen as Ctrl-C does, and Ctrl-Z does nothing."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.default_int_handler)
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    spelled = "   -   ".join(" ".join(group) for group in password.reveal().split("-"))
    try:
        sys.stdout.write(f"{OPEN}\n  {escape(title)}\n\n      {coloured(password.reveal(), BOLD)}\n\n      {spelled}\n\n")
        sys.stdout.write(f"  {advice} It is shown only once; press Enter to clear the screen.\n")
        sys.stdout.flush()
        wait_for_enter()
    finally:
        sys.stdout.write(CLEAR)
        sys.stdout.flush()


app.command(epilog=password_letters.EXAMPLE)(password_letters.letters)
app.command(epilog=password_mail.EXAMPLE)(password_mail.mail)
