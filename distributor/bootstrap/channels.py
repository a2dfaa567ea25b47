"""Composes what the channels of passwords need: the printer of letters, child processes that render, and `doctor`'s checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from distributor import bootstrap, config
from distributor.errors import Error
from distributor.model.issues import Diagnostic

if TYPE_CHECKING:
    from distributor.mail.message import RenderedText
    from distributor.model.channels import LetterPrinter, Refusal
    from distributor.model.people import Address
    from distributor.model.ports import Ledger, Transport, WorkerPool
    from distributor.workflows.letters import LetterJob, LetterTexts
    from distributor.workflows.password_mail import MailContext, MailJob, PasswordTexts
    from distributor.workflows.sending.direct import DirectSendingContext, SentCopies

RENDERING_SECONDS = 20.0  # for the texts of one letter or message


def letter_printer(settings: config.Settings) -> LetterPrinter:
    """The printer of letters. Raises InvalidInput without the extra `letters`, or with a logo that cannot be used."""
    from distributor.adapters.channels.letter import Settings

    organisation = settings.organisation
    with bootstrap.with_location(settings):
        made = bootstrap.load_adapter("channels", "letter").open(Settings(organisation.name, organisation.colour, organisation.logo))
    return cast("LetterPrinter", made)


@contextmanager
def letter_pool(settings: config.Settings) -> Iterator[WorkerPool[LetterJob, tuple[str, ...] | Refusal]]:
    """Child processes that render the texts of letters: templates may be an operator's own."""
    from distributor.bootstrap.inputs import CHILD_MEMORY, cores
    from distributor.workers.pool import CallFactory, Workers

    workers: Workers[LetterJob, tuple[str, ...] | Refusal]
    workers = Workers(CallFactory(_letter_texts, (settings.folder, settings.organisation)), cores(), RENDERING_SECONDS, CHILD_MEMORY)
    with workers as pool:
        yield pool


def _letter_texts(folder: Path, organisation: config.Organisation) -> LetterTexts:
    from distributor.mail.templates import LETTER, TemplateRenderer
    from distributor.workflows.letters import LetterTexts

    return LetterTexts(TemplateRenderer(folder, organisation.languages, (LETTER,)), organisation.name, organisation.helpdesk)


def mail_transport(settings: config.Settings, tell: Callable[[str], None]) -> Transport:
    """The transport for passwords. No copy of them stays in the mailbox that the packages were sent from."""
    from distributor.bootstrap import delivery

    table = settings.transport
    if table.kind == "graph":
        settings = replace(settings, transport=replace(table, values={**table.values, "save_copy": False}))
    return delivery.transport(settings, tell=tell)


def direct_sending(settings: config.Settings, ledger: Ledger, transport: Transport, command: str) -> DirectSendingContext:
    """What sending outside of the outbox depends on. `command`: what is to be run again where a service refuses."""
    from distributor.adapters.channels.mail import Settings
    from distributor.mail.message import Mailbox
    from distributor.workflows.sending.direct import DirectSendingContext

    senders = [Mailbox(one.address, one.name) for one in settings.mailboxes]
    copies = cast("SentCopies", bootstrap.load_adapter("channels", "mail").open(Settings(), transport))
    return DirectSendingContext(ledger, transport, senders, copies, command)


@contextmanager
def mail_pool(settings: config.Settings) -> Iterator[WorkerPool[MailJob, tuple[Address, RenderedText] | Refusal]]:
    """Child processes that check the mailboxes and render the messages with passwords, which they never see."""
    from distributor.bootstrap.inputs import CHILD_MEMORY, cores
    from distributor.workers.pool import CallFactory, Workers

    made = CallFactory(_password_texts, (settings.folder, settings.organisation, settings.password.to))
    workers: Workers[MailJob, tuple[Address, RenderedText] | Refusal]
    workers = Workers(made, cores(), RENDERING_SECONDS, CHILD_MEMORY)
    with workers as pool:
        yield pool


def _password_texts(folder: Path, organisation: config.Organisation, to: str) -> PasswordTexts:
    from distributor.mail.templates import PASSWORD, TemplateRenderer
    from distributor.model.channels import PasswordTo
    from distributor.workflows.password_mail import PasswordTexts

    words = TemplateRenderer(folder, organisation.languages, (PASSWORD,))
    return PasswordTexts(words, _addresses, PasswordTo(to), organisation.name, organisation.helpdesk)


def _addresses(leaf: bytes) -> tuple[str, ...] | None:
    """The addresses in a certificate."""
    from distributor.model.certificates import CertificateInfo
    from distributor.pki.certificate import info

    found = info(leaf)
    return (*found.addresses, *found.subject_addresses) if isinstance(found, CertificateInfo) else None


def mail_context(
    settings: config.Settings,
    ledger: Ledger,
    pool: WorkerPool[MailJob, tuple[Address, RenderedText] | Refusal],
    tell_line: Callable[[str], None],
) -> MailContext:
    """What sending passwords depends on. `tell_line` gets what a person is to read during a sign-in."""
    from distributor.model.channels import PasswordTo
    from distributor.workflows.password_mail import MailContext

    sending = direct_sending(settings, ledger, mail_transport(settings, tell_line), "distributor password mail")
    return MailContext(ledger, bootstrap.vault(settings), pool, PasswordTo(settings.password.to), sending)


def check(settings: config.Settings) -> Iterator[Diagnostic]:
    """`doctor`'s checks of the channel of passwords."""
    channel, here = settings.password.channel, settings.vault.identity is not None
    if channel == "letter":
        try:
            printer = letter_printer(settings)
        except Error as error:
            yield Diagnostic("password", "error", str(error), error.hint)
            return
        level = "ok" if printer.every_script else "warning"
        hint = None if printer.every_script else "install the DejaVu fonts (Debian: fonts-dejavu-core) to print every European name"
        yield Diagnostic("password", level, f"letters are printed with {printer.font}", hint)
    elif channel == "mail":
        yield Diagnostic("password", "ok", f"passwords are sent to the address in the column {settings.password.to}")
    if channel in {"letter", "mail"}:
        command = {"letter": "distributor password letters --output FILE.pdf", "mail": "distributor password mail"}[channel]
        where = "this host has the vault's identity" if here else "the vault's identity is on another host"
        yield Diagnostic("password", "ok", f"{where}: run `{command}` {'here' if here else 'there'}")
