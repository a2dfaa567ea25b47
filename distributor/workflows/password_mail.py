"""Sends ready passwords in messages to another mailbox of their people: never to the one that received the package.

(1) A child process checks the mailbox and renders the texts, (2) the password is put into them, (3) the transport connects and
announces the message, (4) the hand-over is recorded, durable, (5) the message leaves, (6) the answer is recorded. Where it was
certainly not sent, the password is ready again; where that is unclear, it counts as handed over.
"""

from __future__ import annotations

import asyncio
import html
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta

from distributor.errors import Error, InvalidInput, RequestDenied
from distributor.mail import message
from distributor.mail.message import Mailbox, MessageHeaders, RenderedText, Renderer
from distributor.model.attempts import Accepted, Ambiguous, DraftRef, OutboundMessage, Outcome
from distributor.model.channels import PasswordMail, PasswordTo, ReadyPassword, Refusal, check_recipient, label
from distributor.model.issues import WorkerFailure
from distributor.model.people import Address, BadAddress, Helpdesk, has_unsafe_chars
from distributor.model.ports import Ledger, Vault, WorkerPool
from distributor.model.secret import Secret
from distributor.workflows.sending.direct import DirectReport, DirectSender, DirectSendingContext

REASON = "sent to another mailbox"


@dataclass(frozen=True, slots=True)
class MailJob:
    """A password whose message a child process renders, with `placeholder` where the password is to stand."""

    password: ReadyPassword
    placeholder: str


@dataclass(frozen=True, slots=True)
class PasswordTexts:
    """What a child process calls for each job: the mailbox and the texts, or why the password is not sent."""

    words: Renderer
    addresses: Callable[[bytes], Sequence[str] | None]  # those in a certificate; None where it cannot be read
    to: PasswordTo
    organisation: str
    helpdesk: Helpdesk = field(default_factory=Helpdesk)

    def __call__(self, job: MailJob) -> tuple[Address, RenderedText] | Refusal:
        """Check the mailbox and render the texts."""
        one = job.password
        own = self.addresses(one.leaf)
        if own is None:
            return Refusal(one.address, "the certificate cannot be read", "run `distributor audit verify`")
        found = check_recipient(one.second_address(self.to), self.to, (one.address, *own))
        if isinstance(found, BadAddress):
            return Refusal(one.address, found.reason, f"{found.hint}, then run `distributor plan`")
        try:
            return found, self.words.render(one.language, self._values(one, job.placeholder))
        except InvalidInput as error:
            return Refusal(one.address, str(error), error.hint or "correct the template")

    def _values(self, one: ReadyPassword, placeholder: str) -> dict[str, object]:
        columns = dict(one.columns)
        return {
            "organisation": {"name": self.organisation},
            "person": {"name": "" if has_unsafe_chars(one.name) else one.name, "columns": columns},
            "column": columns,
            "password": {
                "text": placeholder,
                "label": label(one.delivery),
                "to": str(self.to),
                "sent": one.sent_at,
                "not_after": one.not_after,
            },
            "helpdesk": self.helpdesk,
        }


@dataclass(frozen=True, slots=True)
class MailResult:
    """The outcome for a password: `sent`, `ready` (not sent), or `ambiguous` (handed over, perhaps in vain)."""

    delivery: str
    address: str
    outcome: str
    said: str
    hint: str = ""


MailReport = DirectReport[MailResult]


@dataclass(frozen=True, slots=True)
class MailContext:
    """What the run depends on."""

    ledger: Ledger
    vault: Vault
    pool: WorkerPool[MailJob, tuple[Address, RenderedText] | Refusal]
    to: PasswordTo
    sending: DirectSendingContext
    tell: Callable[[MailResult], None] = lambda _: None
    stopped: Callable[[], bool] = lambda: False  # whether to send no further one


async def send_passwords(context: MailContext, ready: Sequence[ReadyPassword]) -> MailReport:
    """Send these passwords, one after the other. What the ledger raises is raised; a service's refusal is the report's `error`."""
    run = _Run(context)
    try:
        await run.work(ready)
    finally:
        run.report.diagnostics += await run.sender.finish()
    run.report.error = run.sender.error
    return run.report


def settle_interrupted(ledger: Ledger, timeout: timedelta) -> list[MailResult]:
    """Record as ambiguous what a killed command left: a password was handed over, and nobody knows whether its message was sent."""
    said, hint = "the command ended before the server answered", "ask whether it arrived; if not: distributor resend ADDRESS --reason TEXT"
    results = []
    for delivery, address in ledger.unanswered_mails(ledger.now() - timeout):
        ledger.note_password_mail(delivery, "ambiguous", said)
        results.append(MailResult(delivery, address, "ambiguous", said, hint))
    return results


class _Run:
    """The state of one run."""

    def __init__(self, context: MailContext) -> None:
        self._context = context
        self.report = MailReport()
        self.sender = DirectSender(context.sending)

    async def work(self, ready: Sequence[ReadyPassword]) -> None:
        jobs = (MailJob(replace(one, sealed=b""), f"password-{secrets.token_hex(10)}") for one in ready)
        sealed = {one.delivery: one for one in ready}
        for job, made in self._context.pool.map(jobs):
            one = sealed[job.password.delivery]
            match made:
                case (Address() as recipient, RenderedText() as rendered):
                    await self._send(one, recipient, rendered, job.placeholder)
                case WorkerFailure(reason):
                    self._add(one, "ready", f"rendering the message failed ({reason})", "run `distributor doctor`")
                case Refusal(reason=reason, hint=hint):
                    self._add(one, "ready", reason, hint)
            if self.sender.error is not None or self._context.stopped():
                return

    async def _send(self, one: ReadyPassword, recipient: Address, rendered: RenderedText, placeholder: str) -> None:
        context = self._context
        sender = self.sender.mailbox(one.sender)
        try:
            text = _filled(rendered, placeholder, context.vault.open(one.sealed, one.delivery))
            if not await self.sender.may_send(sender):
                return
        except InvalidInput as error:
            self._add(one, "ready", error.message, error.hint or "")
            return
        headers = MessageHeaders(
            sender, Mailbox(recipient), context.ledger.now(), f"{secrets.token_hex(16)}@{sender.address.domain}", secrets.token_hex(12)
        )
        mail = PasswordMail(str(recipient), context.to, f"<{headers.message_id}>")
        outbound = OutboundMessage(
            f"{one.delivery}-password", str(sender.address), mail.to, mail.message_id, message.compose(headers, text, None)
        )
        attempt = _Attempt(context.ledger, one, mail)
        try:
            outcome = await self.sender.deliver(outbound, attempt.record_intent)
        except BaseException:
            if attempt.handed_over:  # interrupted: the message may have left
                with suppress(Error):
                    context.ledger.note_password_mail(one.delivery, "ambiguous", "interrupted while the message was being sent")
            raise
        await asyncio.to_thread(self._settle, one, attempt, outcome)

    def _settle(self, one: ReadyPassword, attempt: _Attempt, outcome: Outcome) -> None:
        ledger, said = self._context.ledger, outcome.response
        match outcome:
            case Accepted():
                ledger.note_password_mail(one.delivery, "accepted", said)
                self._add(one, "sent", said)
            case Ambiguous():
                ledger.note_password_mail(one.delivery, "ambiguous", said)
                self._add(one, "ambiguous", said, "ask whether it arrived; if not: distributor resend ADDRESS --reason TEXT")
            case _ if attempt.refused is not None:
                self._add(one, "ready", attempt.refused.message, attempt.refused.hint or "")
            case _ if attempt.handed_over and not ledger.take_back_mail(one, said):
                self._add(one, "ambiguous", f"not sent ({said}), and replaced meanwhile", "run `distributor status`")
            case _:
                self._add(one, "ready", said, "run `distributor password mail` again")

    def _add(self, one: ReadyPassword, outcome: str, said: str, hint: str = "") -> None:
        self.report.results.append(MailResult(one.delivery, one.address, outcome, said, hint))
        self._context.tell(self.report.results[-1])


@dataclass(slots=True)
class _Attempt:
    """The hand-over of one password, at the moment that the transport asks for."""

    ledger: Ledger
    password: ReadyPassword
    mail: PasswordMail
    handed_over: bool = False
    refused: Error | None = None

    async def record_intent(self, _draft: DraftRef | None = None, /) -> bool:
        """Hand the password over; False where it is not ready any more."""
        try:
            await asyncio.to_thread(self.ledger.hand_over_mail, self.password, self.mail, REASON)
        except (RequestDenied, InvalidInput) as error:  # of this password alone
            self.refused = error
            return False
        self.handed_over = True
        return True


def _filled(rendered: RenderedText, placeholder: str, password: Secret) -> RenderedText:
    """The texts with the password. Raises InvalidInput where one of them leaves it out."""
    if placeholder in rendered.subject or not (placeholder in rendered.text and placeholder in rendered.html):
        hint = "write {{ password.text }} in body.txt and body.html, and not in subject.txt"
        raise InvalidInput("the templates do not show the password", where="templates/password", hint=hint)
    text = rendered.text.replace(placeholder, password.reveal())
    return replace(rendered, text=text, html=rendered.html.replace(placeholder, html.escape(password.reveal())))
