"""Mails one person's own certificate to themselves: chooses the address, checks the file as `plan` does, sends. Without a ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from email import message_from_bytes
from email.policy import default
from typing import TYPE_CHECKING

from distributor.errors import RequestDenied, UsageError
from distributor.model.attempts import Accepted, Ambiguous, DraftRef, NotSent, OutboundMessage, Outcome, PackingTask
from distributor.model.certificates import Locator, ParsedIdentities, SourceMaterial
from distributor.model.delivery import DeliveryRequest
from distributor.model.issues import CheckId, Diagnostic, Issue, WorkerFailure
from distributor.model.mailbox_cleanup import CleanupEvent, CleanupItem, MailboxCleaner
from distributor.model.people import Address, Person
from distributor.model.ports import Now, Transport
from distributor.pki.checks import addresses
from distributor.workflows.matching import Matching
from distributor.workflows.plan_messages import common_name
from distributor.workflows.roster import gather

if TYPE_CHECKING:
    from distributor.model.ports import Checker


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """What may be packaged, oldest certificate first, and everything that the checks found."""

    requests: tuple[DeliveryRequest, ...]
    issues: tuple[Issue, ...]


def choose(opened: ParsedIdentities, to: Address | None, source: str) -> tuple[ParsedIdentities, Address | None]:
    """The identities of one address, and that address; None where no certificate names one.

    Raises UsageError where they have several addresses and `to` is not given, RequestDenied where none of them is for `to`.
    """
    named = {address.key: address for identity in opened.identities for address in addresses(identity.facts)[0]}
    known = ", ".join(map(str, named.values()))
    if to is None:
        if len(named) > 1:
            raise UsageError(f"the file has certificates for several addresses ({known})", where=source, hint="add --to ADDRESS")
        return opened, next(iter(named.values()), None)
    if to.key in named:
        of_one = [one for one in opened.identities if any(address.key == to.key for address in addresses(one.facts)[0])]
        return replace(opened, identities=tuple(of_one)), named[to.key]
    if named:
        hint = "have a certificate issued for the other address" if len(named) == 1 else "name one of these with --to"
        raise RequestDenied(f"the certificate is for {known}, not for {to}", where=source, hint=hint)
    return opened, None


def check(  # noqa: PLR0913  what a plan's checks need
    material: SourceMaterial,
    opened: ParsedIdentities | WorkerFailure,
    person: Address | None,
    languages: Sequence[str],
    *,
    now: datetime,
    checker: Checker | None,
) -> CheckedFile:
    """Check every identity as `plan` does. `person`: the chosen address, None where there is none."""
    found = opened.identities if isinstance(opened, ParsedIdentities) else ()
    name = next((text for identity in found if (text := common_name(identity.facts))), "")
    people = gather(None if person is None else _OneRow(Person(person, name)))
    work = Matching(people, languages, now, checker)
    file = _OneFile(material, opened)
    candidates = list(work.candidates(file, file, lambda _: None))
    requests = [candidate.draft for candidate in work.trusted(candidates, {})]
    issues = [*work.issues, *work.missing()]
    requests.sort(key=lambda request: request.facts.not_before)  # a phone uses the certificate that was installed last
    return CheckedFile(tuple(requests), tuple(replace(issue, hint=_of_self(issue)) for issue in issues))


def _of_self(issue: Issue) -> str | None:
    """A hint without what only a plan has."""
    if issue.check is CheckId.WRONG_PASSWORD:
        return "use the password that was set when the file was exported, or export it again"
    return issue.hint and issue.hint.replace("distributor plan", "distributor self")


@dataclass(frozen=True, slots=True)
class _OneRow:
    """The chosen person; a Roster."""

    person: Person

    def people(self) -> Iterator[Person]:
        yield self.person


@dataclass(frozen=True, slots=True)
class _OneFile:
    """The file; a Source, and the WorkerPool that has opened it before."""

    material: SourceMaterial
    opened: ParsedIdentities | WorkerFailure

    def finds(self, _people: Mapping[str, Person]) -> Iterator[SourceMaterial]:
        yield self.material

    def fetch(self, _locator: Locator, _person: Person | None) -> SourceMaterial:
        return self.material

    def map(self, jobs: Iterable[SourceMaterial]) -> Iterator[tuple[SourceMaterial, ParsedIdentities | WorkerFailure]]:
        return ((job, self.opened) for job in jobs)


def task(request: DeliveryRequest, number: int, language: str | None) -> PackingTask:
    """What the message of a certificate is made from."""
    facts = request.facts
    return PackingTask(
        f"self-{number}",
        "",
        1,
        request.person,
        language or request.language,
        facts.sha256,
        facts.serial,
        facts.issuer,
        facts.subject,
        facts.not_before,
        facts.not_after,
        request.locator,
        request.leaf,
        request.chain,
    )


def attachment(message: bytes) -> bytes:
    """The package in a message."""
    data = next(message_from_bytes(message, policy=default).iter_attachments()).get_payload(decode=True)
    assert isinstance(data, bytes)  # noqa: S101  it has no parts of its own
    return data


@dataclass(slots=True)
class SelfSender:
    """Sends the messages one after the other, and knows their outcomes however it ends."""

    transport: Transport
    now: Now
    outcomes: list[Outcome] = field(default_factory=list)
    unclear: bool = False  # one was past the point of no return, and there is no outcome yet
    diagnostics: list[Diagnostic] = field(default_factory=list)

    async def send(self, messages: Sequence[OutboundMessage], sender: str | None) -> None:
        """Send each; what could not be sent at all ends it. `sender`: the mailbox, where several are configured."""
        sent = _Sent()
        tracker = self.transport.tracker()
        if tracker is not None and isinstance(tracker, MailboxCleaner):
            tracker.attach_ledger(sent)
        connection = self.transport.connection(sender)
        try:
            for message in messages:
                self.unclear, began = False, self.now()
                outcome = await connection.deliver(message, self._begin)
                self.unclear = False
                self.outcomes.append(outcome)
                if isinstance(outcome, Accepted):
                    name, last = message.message_id, self.now()
                    sent.items.append(CleanupItem(message.delivery, name, message.sender, outcome.response, began, last))
                if isinstance(outcome, NotSent):
                    break
        finally:
            await connection.close()
            self.diagnostics += await self.transport.finish(settled=not self.unclear)

    async def _begin(self, _draft: DraftRef | None = None, /) -> bool:
        self.unclear = True
        return True


def may_have_arrived(outcome: Outcome) -> bool:
    """Whether the person needs the password."""
    return isinstance(outcome, Accepted | Ambiguous)


@dataclass(slots=True)
class _Sent:
    """What a ledger would know of this run's messages, so that their copies in Sent Items are removed; a CleanupStore."""

    items: list[CleanupItem] = field(default_factory=list)

    def copies(self) -> list[CleanupItem]:
        return list(self.items)

    def drafts(self) -> list[CleanupItem]:
        return []

    def drafted(self, _sender: str) -> bool:
        return False

    def note_cleared(self, deliveries: Sequence[str], _mark: CleanupEvent) -> None:
        self.items = [item for item in self.items if item.delivery not in deliveries]
