"""Composes what reminders need: what certificates are for, child processes that make messages, and the transport."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from distributor import config

if TYPE_CHECKING:
    from distributor.errors import InvalidInput
    from distributor.model.attempts import OutboundMessage
    from distributor.model.ports import Ledger, WorkerPool
    from distributor.workflows.remind import RemindContext, ReminderJob, ReminderMaker, ReminderResult

BOTH = ("sign", "encrypt")
MAKING_SECONDS = 20.0  # for one message


def usages(leaf: bytes) -> Collection[str]:
    """Which of "sign" and "encrypt" a certificate is for; both where it cannot be read."""
    from distributor.pki.certificate import Certificate, load

    found = load(leaf)
    return found.usages if isinstance(found, Certificate) else BOTH


@contextmanager
def message_pool(settings: config.Settings) -> Iterator[WorkerPool[ReminderJob, OutboundMessage | InvalidInput]]:
    """Child processes that make the messages: templates may be an operator's own."""
    from distributor.bootstrap.inputs import CHILD_MEMORY, cores
    from distributor.workers.pool import CallFactory, Workers

    portal = settings.portal.url.partition("://")[2] if settings.portal is not None else ""
    workers: Workers[ReminderJob, OutboundMessage | InvalidInput]
    made = CallFactory(_message_maker, (settings.folder, settings.organisation, portal))
    workers = Workers(made, cores(), MAKING_SECONDS, CHILD_MEMORY)
    with workers as pool:
        yield pool


def _message_maker(folder: Path, organisation: config.Organisation, portal: str) -> ReminderMaker:
    from distributor.mail.templates import REMINDERS, TemplateRenderer
    from distributor.model.reminders import ReminderKind
    from distributor.workflows.remind import ReminderMaker

    texts = {kind: TemplateRenderer(folder, organisation.languages, (name,)) for kind, name in zip(ReminderKind, REMINDERS, strict=True)}
    return ReminderMaker(texts, organisation.name, organisation.helpdesk, portal)


def remind_context(
    settings: config.Settings,
    ledger: Ledger,
    pool: WorkerPool[ReminderJob, OutboundMessage | InvalidInput],
    tell: Callable[[ReminderResult], None],
    tell_line: Callable[[str], None],
) -> RemindContext:
    """What sending reminders depends on. `tell` gets each result, `tell_line` what a person is to read during a sign-in."""
    from distributor.bootstrap import channels, delivery
    from distributor.workflows.remind import RemindContext

    transport = delivery.transport(settings, tell=tell_line)
    return RemindContext(ledger, pool, channels.direct_sending(settings, ledger, transport, "distributor remind --send"), tell)
