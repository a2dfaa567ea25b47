"""`distributor password mail`: sends ready passwords to another mailbox of their people; `distributor send` does it at its end."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import TYPE_CHECKING

from distributor.cli.options import Config, Json, Yes, confirm
from distributor.cli.progress import Bar
from distributor.cli.render import counted, escape, print_json, stderr_line, stdout_line
from distributor.errors import RequestDenied

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from distributor.config import Settings
    from distributor.model.channels import ReadyPassword
    from distributor.model.ports import Ledger
    from distributor.workflows.password_mail import MailReport, MailResult

EXAMPLE = "\b\nexample:\n  distributor password mail --yes"


def mail(yes: Yes = False, chosen: Config = None, as_json: Json = False) -> int:
    """Send ready passwords to the other mailbox of each person.

    Covers passwords whose channel is "mail", once the message with the package is accepted; `[password] to` names the roster's column.
    """
    from distributor import bootstrap

    settings = bootstrap.settings(chosen)
    bootstrap.vault(settings)  # before anything is asked
    with bootstrap.open_for_writing(settings, sends=True) as ledger:
        ready = ledger.ready_passwords("mail")
        if ready and not yes:
            confirm(f"Send {counted(len(ready), 'password')} from {settings.sender.address} to {settings.password.to}?", "--yes")
        found = _send(settings, ledger, ready)
    if as_json:
        rows = [{"id": one.delivery, "address": one.address, "outcome": one.outcome, "said": one.said} for one in found.results]
        counts = {name: found.count(name) for name in ("sent", "ready", "ambiguous")}
        print_json("password-mail", {**counts, "deliveries": rows})
    elif not found.results:
        stderr_line("no password is ready to be sent; next: distributor status")
    else:
        stdout_line(_summary(found))
    if found.error is not None:
        raise found.error
    return 1 if found.count("ready") or found.count("ambiguous") else 0


def after_send(settings: Settings, code: int) -> int:
    """Send the passwords of accepted packages where this host can open them, else say what to run; returns the exit code."""
    from distributor import bootstrap

    channel = settings.password.channel
    if channel not in {"letter", "mail"}:
        return code
    with bootstrap.open_for_reading(settings) as ledger:
        number = len(ledger.ready_passwords(channel))
    if not number:
        return code
    told = "1 password is ready" if number == 1 else f"{number} passwords are ready"
    command = "distributor password letters --output FILE.pdf" if channel == "letter" else "distributor password mail"
    if channel == "letter" or settings.vault.identity is None:
        there = "" if settings.vault.identity is not None else " on the host that has the vault's identity"
        stderr_line(f"{told}; next: {command}{there}")
        return code
    with bootstrap.open_for_writing(settings, sends=True) as ledger:
        found = _send(settings, ledger, ledger.ready_passwords("mail"))
    stderr_line(_summary(found))
    if found.error is not None:
        raise found.error
    return 1 if found.count("ready") or found.count("ambiguous") else code


def _send(settings: Settings, ledger: Ledger, ready: Sequence[ReadyPassword]) -> MailReport:
    """Send them, with a bar; what needs a person is printed."""
    with Bar("sending passwords", len(ready)) as bar:

        def tell(result: MailResult) -> None:
            bar.step()
            if result.outcome != "sent":
                what = "not sent" if result.outcome == "ready" else "ambiguous"
                bar.line(f"{escape(result.address)}: {what}: {escape(result.said)}" + (f" ({escape(result.hint)})" if result.hint else ""))

        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            found = send_ready(settings, ledger, ready, tell, bar.line)
        finally:
            signal.signal(signal.SIGTERM, before)
    for diagnostic in found.diagnostics:
        if diagnostic.level != "ok":
            stderr_line(f"{diagnostic.level}: {escape(diagnostic.message)}" + (f" ({escape(diagnostic.hint)})" if diagnostic.hint else ""))
    return found


def send_ready(
    settings: Settings,
    ledger: Ledger,
    ready: Sequence[ReadyPassword],
    tell: Callable[[MailResult], None],
    tell_line: Callable[[str], None],
    stopped: Callable[[], bool] = lambda: False,
) -> MailReport:
    """Settle what an earlier command left unanswered, then send these passwords; `tell` gets each result."""
    import asyncio

    from distributor.bootstrap import channels, delivery
    from distributor.workflows.password_mail import MailReport, send_passwords, settle_interrupted

    left = settle_interrupted(ledger, delivery.transport(settings, signed_in=False).attempt_timeout)
    for result in left:
        tell(result)
    if not ready:
        return MailReport(left)
    if settings.password.channel != "mail":
        message = f'{counted(len(ready), "password")} ready from when the channel was "mail"; it is "{settings.password.channel}" now'
        raise RequestDenied(message, where="password.channel", hint="set it back to send them, or `distributor resend` each")
    with channels.mail_pool(settings) as pool:
        context = replace(channels.mail_context(settings, ledger, pool, tell_line), tell=tell, stopped=stopped)
        found = asyncio.run(send_passwords(context, ready))
    found.results[:0] = left
    return found


def _summary(found: MailReport) -> str:
    parts = [counted(found.count("sent"), "password") + " sent"]
    parts += [
        f"{number} {name}" for name, number in (("not sent", found.count("ready")), ("ambiguous", found.count("ambiguous"))) if number
    ]
    return ", ".join(parts)
