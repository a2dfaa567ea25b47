"""Composes what `send`, `track` and `publish` need: worker processes that make messages, transport, trackers, public directories."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from distributor import bootstrap, config
from distributor.config.schema import SenderMailbox, host_defaults
from distributor.errors import InvalidInput
from distributor.model.people import key_of

if TYPE_CHECKING:
    from distributor.mail.templates import TemplateRenderer
    from distributor.microsoft.pfx_import import ConnectorKey
    from distributor.model.attempts import PackedMessage, PackingJob
    from distributor.model.certificates import ParseProblem, PublicDirectory
    from distributor.model.delivery import Account, DeliveryFilter, LeaseHolder
    from distributor.model.issues import Diagnostic, WorkerFailure
    from distributor.model.limits import Limits
    from distributor.model.mailboxes import MailboxReader
    from distributor.model.ports import Ledger, Tracker, Transport, WorkerPool
    from distributor.model.states import State
    from distributor.workflows.message_factory import Packer
    from distributor.workflows.sending.report import Packing
    from distributor.workflows.tracking import TrackingReport

READ_MAILBOXES = frozenset({"graph", "imap"})  # kinds of trackers that read what people answer; not loaded to ask
PACK_SECONDS = 20.0  # for one message, besides the time that opening its file may take


def transport(settings: config.Settings, *, signed_in: bool = True, tell: Callable[[str], None] | None = None) -> Transport:
    """The transport, not connected yet. Without `signed_in` no secret is resolved. `tell` shows a person the code of a device sign-in."""
    table = settings.transport
    values = {**host_defaults(table.kind, table.values), **table.values}
    if "password" in values or "oauth" in values:
        values.setdefault("username", str(settings.sender.address))
    if table.kind == "graph":
        values.setdefault("mailbox", str(settings.sender.address))
    own = bootstrap.load_settings(settings, "transports", replace(table, values=values), signed_in=signed_in)
    accounts = _accounts(settings, own, signed_in=signed_in)
    with bootstrap.with_location(settings, table.key):
        return bootstrap.load_adapter("transports", table.kind).open(own, accounts, tell=tell)


def _accounts(settings: config.Settings, own: object, *, signed_in: bool) -> tuple[Account, ...]:
    """Every mailbox that sends, where there are several. `own`: the transport's settings."""
    from distributor.model.delivery import Account

    if not settings.senders:
        return ()
    first = Account(str(settings.sender.address), getattr(own, "username", None), getattr(own, "password", None))
    return (first, *(_account(sender, n, signed_in=signed_in) for n, sender in enumerate(settings.senders)))


def _account(sender: SenderMailbox, number: int, *, signed_in: bool) -> Account:
    from distributor.model.delivery import Account

    reference = sender.password if signed_in else None
    password = None if reference is None else reference.resolve(f"senders[{number}].password")
    return Account(str(sender.address), sender.username, password)


def senders(settings: config.Settings) -> tuple[str, ...]:
    """The addresses of the mailboxes that send in parallel; empty where there is one."""
    return tuple(str(mailbox.address) for mailbox in settings.mailboxes) if settings.senders else ()


def trackers(settings: config.Settings) -> tuple[list[Tracker], list[MailboxReader]]:
    """The trackers that look messages up, the transport's own first, and those that read mailboxes; not connected yet."""
    from distributor.model.mailboxes import MailboxReader
    from distributor.model.ports import Tracker

    own = transport(settings, signed_in=False).tracker() and transport(settings).tracker()  # secrets only where there is one
    named = [bootstrap.open_adapter(settings, "trackers", table) for table in settings.trackers]
    lookups = [tracker for tracker in named if isinstance(tracker, Tracker)]  # one kind does both
    return [*([own] if own else []), *lookups], [tracker for tracker in named if isinstance(tracker, MailboxReader)]


def directories(settings: config.Settings) -> list[PublicDirectory]:
    """The directories that certificates are published in; not connected yet."""
    return [bootstrap.open_adapter(settings, "directories", table) for table in settings.directories]


def track(settings: config.Settings, ledger: Ledger, trackers: Sequence[Tracker], states: frozenset[State]) -> TrackingReport:
    """Ask the trackers about messages in these states, and record what they report."""
    import asyncio

    from distributor.model.delivery import DeliveryFilter
    from distributor.model.states import Way
    from distributor.workers import process
    from distributor.workflows import tracking

    timeout = transport(settings, signed_in=False).attempt_timeout

    async def work() -> TrackingReport:
        context = tracking.TrackingContext(ledger, process.is_alive, ledger.now, timeout, asyncio.to_thread)
        try:
            return await tracking.track(context, trackers, DeliveryFilter(way=Way.MAIL), states)
        finally:
            for tracker in trackers:
                await tracker.close()

    return asyncio.run(work())


MAILBOX_CLEANERS = frozenset({"graph"})  # transports whose messages leave copies or drafts; the others are not loaded to ask


def mailbox_needs_cleaning(settings: config.Settings, ledger: Ledger) -> bool:
    """Whether messages left copies or drafts in the mailboxes that are to be removed; asks no service."""
    from distributor.model.mailbox_cleanup import MailboxCleaner

    if settings.transport.kind not in MAILBOX_CLEANERS:
        return False
    offline = transport(settings, signed_in=False).tracker()
    return offline is not None and isinstance(offline, MailboxCleaner) and offline.has_work(ledger)


def clean_mailboxes(settings: config.Settings, ledger: Ledger) -> list[Diagnostic]:
    """Remove copies and drafts that messages left in the mailboxes; not while a `send` uses them, which does it itself.

    Raises what signing in or the ledger raises. The mailboxes are locked through a ledger connection of its own, closed at the end.
    """
    import asyncio

    from distributor.model.issues import Diagnostic
    from distributor.model.mailbox_cleanup import MailboxCleaner

    if not mailbox_needs_cleaning(settings, ledger):
        return []
    with bootstrap.open_for_writing(settings) as own:
        if not all(own.lock_mailbox(key_of(mailbox)) for mailbox in ("", *senders(settings)[1:])):
            return [Diagnostic("transport", "ok", "the running `distributor send` cleans up the mailbox")]
        cleaner = transport(settings).tracker()
        assert cleaner is not None  # noqa: S101  the same transport, signed in
        assert isinstance(cleaner, MailboxCleaner)  # noqa: S101

        async def work() -> list[Diagnostic]:
            try:
                return await cleaner.clear(own)
            finally:
                await cleaner.close()

        return asyncio.run(work())


@contextmanager
def packing_pool(
    settings: config.Settings, *, early: bool = True, connector: tuple[bytes, ConnectorKey] | None = None
) -> Iterator[WorkerPool[PackingJob, PackedMessage | ParseProblem]]:
    """Child processes that make messages. `early`: some start before there is a job, and import what they need meanwhile.

    `connector`: for imports into Intune.
    """
    from distributor.bootstrap.inputs import CHILD_MEMORY, EARLY, cores
    from distributor.workers.pool import CallFactory, Workers
    from distributor.workflows.packing import GROUP

    portal = settings.portal.url.partition("://")[2] if settings.portal is not None else ""
    answers = any(table.kind in READ_MAILBOXES for table in settings.trackers)
    tables = (settings.organisation, settings.mailboxes, settings.package, settings.password, settings.limits, settings.requests)
    made = CallFactory(packer, (settings.folder, settings.vault.recipients, *tables, portal, answers, connector))
    workers: Workers[PackingJob, PackedMessage | ParseProblem]
    workers = Workers(made, cores(), settings.limits.open_seconds + PACK_SECONDS, CHILD_MEMORY, early=EARLY if early else 0, group=GROUP)
    with workers as pool:
        yield pool


def packer(  # noqa: PLR0913, PLR0917  the tables it needs and no others: it runs in the process that opens hostile files
    folder: Path,
    recipients: tuple[str, ...],
    organisation: config.Organisation,
    mailboxes: Sequence[config.Sender],
    package: config.Package,
    password: config.Password,
    limits: Limits,
    requests: config.MailRequests,
    portal: str = "",
    answers: bool = False,  # noqa: FBT001, FBT002  as the tables
    connector: tuple[bytes, ConnectorKey] | None = None,
) -> Packer:
    """The function that makes a message; called in each child, since its imports are slow."""
    from distributor.mail.message import Mailbox
    from distributor.mail.templates import TemplateRenderer
    from distributor.vault import seal
    from distributor.workflows.message_factory import Packer

    return Packer(
        words=TemplateRenderer(folder, organisation.languages),
        seal=seal(recipients),
        organisation=organisation.name,
        helpdesk=organisation.helpdesk,
        senders=tuple(Mailbox(mailbox.address, mailbox.name) for mailbox in mailboxes),
        channel=password.channel,
        to=password.to,
        portal=portal,
        request_by_mail=requests.by_mail,
        signed_answers=answers,
        expires=password.expires,
        profile=str(package.profile),
        include_root=package.include_root,
        recipe=password.recipe,
        connector=connector,
        limits=limits,
    )


def packing_workflow(  # noqa: PLR0913, PLR0917  what the workflow depends on
    settings: config.Settings,
    ledger: Ledger,
    pool: WorkerPool[PackingJob, PackedMessage | ParseProblem],
    owner: LeaseHolder,
    scope: DeliveryFilter,
    limit: int | None,
) -> Packing:
    """The packing workflow with its dependencies, ready for `send` to run."""
    from distributor.bootstrap import inputs
    from distributor.model.states import Way
    from distributor.workers import process
    from distributor.workflows.packing import pack

    def run(stop: Callable[[], bool]) -> Iterator[object]:
        context, lease = partial(inputs.open_plan, settings), settings.ledger.lease
        mailboxes = () if scope.way is Way.INTUNE else senders(settings)
        yield from pack(
            ledger,
            context,
            pool,
            owner=owner,
            lease=lease,
            scope=scope,
            limit=limit,
            now=bootstrap.now,
            stop=stop,
            senders=mailboxes,
            alive=process.is_alive,
        )

    return run


def template_renderer(settings: config.Settings) -> TemplateRenderer:
    """Renders messages from the workspace's templates, then the packaged ones."""
    from distributor.mail.templates import INCIDENT, LETTER, MESSAGE, PASSWORD, REMINDERS, TemplateRenderer

    others = {"letter": (LETTER,), "mail": (PASSWORD,)}.get(settings.password.channel, ())
    return TemplateRenderer(settings.folder, settings.organisation.languages, (MESSAGE, INCIDENT, *others, *REMINDERS))


def outdated_templates(settings: config.Settings) -> InvalidInput | None:
    """The error about workspace templates in the folder of earlier versions; ignored silently, other texts than meant would be sent."""
    if not (settings.folder / "templates" / "letter").is_dir():
        return None
    there = (settings.folder / "templates" / "message").exists()
    move = "move its files into templates/message" if there else "mv templates/letter templates/message"
    hint = f"{move}; in the files, replace letter/ by message/"
    return InvalidInput("these templates are not used: the folder is now templates/message", where="templates/letter", hint=hint)


def refuse_outdated_templates(settings: config.Settings) -> None:
    """Raise InvalidInput before anything is packed with other texts than the workspace's own."""
    if (error := outdated_templates(settings)) is not None:
        raise error


def check_templates(settings: config.Settings) -> list[Diagnostic]:
    """`doctor`'s checks of the templates, rendered in child processes as `send` does it."""
    from distributor.model.issues import Diagnostic

    found = template_renderer(settings).check(_in_children)
    old = outdated_templates(settings)
    return found if old is None else [Diagnostic("templates", "error", str(old), old.hint), *found]


def _in_children(call: Callable[[str], list[Diagnostic]], languages: Iterable[str]) -> Iterator[list[Diagnostic]]:
    from distributor.bootstrap.inputs import CHILD_MEMORY, cores
    from distributor.model.issues import WorkerFailure
    from distributor.workers.pool import Workers

    with Workers(call, cores(), PACK_SECONDS, CHILD_MEMORY) as pool:
        for language, found in pool.map(languages):
            yield [_lost(language, found)] if isinstance(found, WorkerFailure) else found


def _lost(language: str, failed: WorkerFailure) -> Diagnostic:
    """The diagnostic for a template whose rendering ended its process."""
    from distributor.model.issues import Diagnostic

    why = {"time": f"takes longer than {PACK_SECONDS:.0f} s", "memory": "needs too much memory"}.get(
        failed.reason, "crashes the rendering process"
    )
    return Diagnostic("templates", "error", f'the message in "{language}" {why}', f"check templates/message/{language}/")
