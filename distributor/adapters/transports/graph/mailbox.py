"""Sends messages through one mailbox: make a draft, record the intent, send it; or sendMail, where drafts are not allowed.

The draft is what makes it safe. It may be made again, for surplus drafts are found by the Message-ID and removed; it is sent only once,
for a second send finds nothing; and when the answer to `send` is lost, the mailbox shows whether it was sent. So sendMail is for mailboxes
in which drafts are certainly forbidden, and never for a message that had a draft before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from distributor.adapters.transports.graph.api import GraphMailboxApi
from distributor.adapters.transports.graph.responses import RequestStep, Response, classify_response
from distributor.clients.graph import HttpResponse, NoResponse
from distributor.clients.sent_items import MailboxMessage
from distributor.errors import Error
from distributor.model.attempts import Accepted, Ambiguous, DraftRef, NotSent, OutboundMessage, Outcome, Rejected
from distributor.model.ports import CommitIntent

CLAIM_LOST = NotSent("another process has claimed this message")
_FORBIDDEN = 403


@dataclass(frozen=True, slots=True)
class DraftState:
    """What is certainly in the mailbox after an attempt of this run that was certainly not sent; `draft` None: nothing."""

    attempt: int
    draft: DraftRef | None


@dataclass(frozen=True, slots=True)
class MissingDraft:
    """A draft that an earlier attempt may have sent; it is gone, and there is no copy in Sent Items."""

    draft: DraftRef


class DraftSender:
    """Sends through one mailbox. `by_draft` becomes False when the app may certainly not make drafts there; decided once a run."""

    def __init__(self, api: GraphMailboxApi, *, had_drafts: Callable[[str], Awaitable[bool]], on_accepted: Callable[[], None]) -> None:
        """`had_drafts`: whether earlier runs made drafts for a sender, True where it is unknown. `on_accepted`: called for each message."""
        self.api = api
        self.by_draft = True
        self.mailed = 0  # messages that were accepted without a draft
        self._had_drafts = had_drafts
        self._made_draft = False  # in this run
        self._on_accepted = on_accepted
        self._left: dict[str, DraftState] = {}  # by delivery

    async def deliver(self, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        """Send one message: steps (3) to (6) of `workflows/sending`; see model.ports.Connection."""
        found = await self._prepare(message)  # (3) prepare
        match found:  # (4) to (6) are in each of these
            case DraftRef():
                return await self._send(found, message, record_intent)
            case MailboxMessage():
                return await self._sent_already(found, record_intent)
            case MissingDraft(draft):
                return await self._missing(draft, record_intent)
            case None:
                return await self._send_mail(message, record_intent)
            case _:
                return found

    # --- before the intent is recorded -------------------------------------------------------------------------------

    async def _prepare(self, message: OutboundMessage) -> DraftRef | MailboxMessage | MissingDraft | Outcome | None:
        """A draft to send, the copy of a message that was sent before, or why there is neither; None: drafts are not allowed."""
        if not self.by_draft and message.draft is None:
            return None
        left = self._left.pop(message.delivery, None)
        if left is not None and left.attempt == message.attempt - 1:
            return left.draft or await self._create(message)
        return await self._create(message) if message.attempt == 1 else await self._look(message)

    async def _look(self, outbound: OutboundMessage) -> DraftRef | MailboxMessage | MissingDraft | Outcome | None:
        """What earlier attempts left. Of several drafts, the one of the recorded intent may have been sent; without one, the newest.

        Where that one is gone and there is no copy, it may be on its way, whatever other drafts there are.
        """
        found = await self.api.find(outbound.message_id)
        if not isinstance(found, list):
            return await self._no_draft(RequestStep.LOOK, found, outbound)
        copy = next((message for message in found if not message.draft), None)
        drafts = [message for message in found if message.draft]
        tried = None if copy else next((message for message in drafts if outbound.draft in {None, message.id}), None)
        for surplus in drafts:
            if surplus is not tried:
                await self.api.remove(surplus.id)
        if tried is not None:
            return DraftRef(tried.id, tried.message_id or outbound.message_id)
        if copy is None and outbound.draft is not None:
            return MissingDraft(DraftRef(outbound.draft, outbound.message_id))
        return copy or await self._create(outbound)

    async def _create(self, message: OutboundMessage) -> DraftRef | Outcome | None:
        made = await self.api.draft(message)
        if isinstance(made, DraftRef):
            self._made_draft = True
            return made
        if _refused(made):
            self._left[message.delivery] = DraftState(message.attempt, None)
        return await self._no_draft(RequestStep.DRAFT, made, message)

    async def _no_draft(self, step: RequestStep, response: Response, message: OutboundMessage) -> Outcome | None:
        """None where messages are sent without drafts; never for a message that had one, which may be on its way."""
        if message.draft is None and _forbidden(response) and await self._only_sends(message.sender):
            self.by_draft = False
            return None
        return classify_response(step, response, self.api.name, reached=self.api.reached)

    async def _only_sends(self, sender: str) -> bool:
        """Whether the app may certainly not make drafts here, so that a 403 is not a passing fault of the service.

        A token with permissions for mail tells. What Exchange itself grants (RBAC for Applications) is in no token: then no draft was
        ever made here, and reading the Drafts folder is refused too.
        """
        try:
            token = await self.api.graph.token()
        except Error:
            return False
        permissions = [one for one in token.roles | token.scopes if one.startswith("Mail.")]
        if self._made_draft or any(one.startswith("Mail.ReadWrite") for one in permissions):
            return False
        return bool(permissions) or (not await self._had_drafts(sender) and _forbidden(await self.api.drafts()))

    # --- recording the intent, and after it --------------------------------------------------------------------------

    async def _send(self, draft: DraftRef, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        self._left[message.delivery] = DraftState(message.attempt, draft)
        if not await record_intent(draft):  # (4)
            return CLAIM_LOST
        del self._left[message.delivery]
        # (5) transmit, (6) classify
        outcome = classify_response(RequestStep.SEND, await self.api.send(draft.id), self.api.name, reached=self.api.reached)
        match outcome:
            case NotSent():
                self._left[message.delivery] = DraftState(message.attempt, draft)
            case Rejected():
                await self.api.remove(draft.id)
            case Accepted():
                self._on_accepted()
        return outcome

    async def _sent_already(self, copy: MailboxMessage, record_intent: CommitIntent) -> Outcome:
        """An earlier attempt was accepted, and its answer was lost."""
        if not await record_intent(DraftRef(copy.id, copy.message_id)):
            return CLAIM_LOST
        self._on_accepted()
        return Accepted(f"found in Sent Items, sent at {copy.sent_at}")

    async def _missing(self, draft: DraftRef, record_intent: CommitIntent) -> Outcome:
        """Send nothing; the recorded intent only keeps the id by which the message is looked for."""
        if not await record_intent(draft):
            return CLAIM_LOST
        return Ambiguous("the draft is gone and Sent Items has no copy: the message may have been sent")

    async def _send_mail(self, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        if not await record_intent():
            return CLAIM_LOST
        outcome = classify_response(RequestStep.SENDMAIL, await self.api.send_mail(message), self.api.name, reached=self.api.reached)
        if isinstance(outcome, Accepted):
            self.mailed += 1
            self._on_accepted()
        return outcome


def _forbidden(response: Response) -> bool:
    return isinstance(response, HttpResponse) and response.status == _FORBIDDEN


def _refused(response: Response) -> bool:
    """Whether it is certain that no draft was made."""
    match response:
        case HttpResponse(status=status):
            return 400 <= status < 500 and status != 408  # noqa: PLR2004  the first digit is the class, and 408 is a time-out
        case NoResponse(request_sent=request_sent):
            return not request_sent
    return True
