"""One mailbox's messages in a run: draft, ARM, send; or, where drafts are not allowed, ARM and sendMail -> Outcomes.

The draft is what makes it safe. It may be made again, for surplus drafts are found by the Message-ID and removed; it is sent only once,
for a second send finds nothing; and what became of it is seen in the mailbox when the answer to `send` is lost. So sendMail is for
mailboxes in which drafts are certainly forbidden, and never for a message that lay ready as a draft before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from distributor.adapters.transports.graph.api import GraphMailboxApi
from distributor.adapters.transports.graph.responses import RequestStep, Response, classify_response
from distributor.clients.graph import HttpResponse, NoResponse
from distributor.clients.sent_items import MailboxMessage
from distributor.errors import Error
from distributor.model.outcomes import Accepted, Ambiguous, DraftRef, NotSent, OutboundMessage, Outcome, Rejected
from distributor.model.ports import CommitIntent

NOT_OURS = NotSent("another sender holds this message")
_FORBIDDEN = 403


@dataclass(frozen=True, slots=True)
class DraftState:
    """What certainly lies in the mailbox after an attempt of this run that was certainly not sent; no draft: nothing."""

    attempt: int
    draft: DraftRef | None


@dataclass(frozen=True, slots=True)
class MissingDraft:
    """A draft that was to be sent, and of which nothing is seen any more."""

    draft: DraftRef


class DraftSender:
    """`by_draft` becomes False when the mailbox certainly refuses drafts to an app that may only send; decided once a run."""

    def __init__(self, box: GraphMailboxApi, *, drafted: Callable[[str], Awaitable[bool]], news: Callable[[], None]) -> None:
        """`drafted`: whether earlier runs had drafts of a sender, True where nobody knows. `news`: a message was accepted."""
        self.box = box
        self.by_draft = True
        self.mailed = 0  # messages that were accepted without a draft
        self._drafted = drafted
        self._drew = False  # a draft was made in this run
        self._news = news
        self._left: dict[str, DraftState] = {}  # by delivery

    async def deliver(self, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        """Carry one message; see core.ports.Lane."""
        ready = await self._ready(message)
        match ready:
            case DraftRef():
                return await self._send(ready, message, record_intent)
            case MailboxMessage():
                return await self._sent_already(ready, record_intent)
            case MissingDraft(draft):
                return await self._vanished(draft, record_intent)
            case None:
                return await self._send_mail(message, record_intent)
            case _:
                return ready

    # --- before the ARM ------------------------------------------------------------------------------------------------

    async def _ready(self, message: OutboundMessage) -> DraftRef | MailboxMessage | MissingDraft | Outcome | None:
        """A draft to send, the copy of a message that was sent already, why there is neither; None: no drafts here."""
        if not self.by_draft and message.draft is None:
            return None
        left = self._left.pop(message.delivery, None)
        if left is not None and left.attempt == message.attempt - 1:
            return left.draft or await self._create(message)
        return await self._create(message) if message.attempt == 1 else await self._look(message)

    async def _look(self, parcel: OutboundMessage) -> DraftRef | MailboxMessage | MissingDraft | Outcome | None:
        """What earlier attempts left. Of several drafts it is the armed one that may have been tried; without one, the newest.

        Where the armed one is gone and no copy is there, it may be on its way, whatever else lies there.
        """
        found = await self.box.find(parcel.message_id)
        if not isinstance(found, list):
            return await self._no_draft(RequestStep.LOOK, found, parcel)
        copy = next((message for message in found if not message.draft), None)
        drafts = [message for message in found if message.draft]
        tried = None if copy else next((message for message in drafts if parcel.draft in {None, message.id}), None)
        for surplus in drafts:
            if surplus is not tried:
                await self.box.remove(surplus.id)
        if tried is not None:
            return DraftRef(tried.id, tried.message_id or parcel.message_id)
        if copy is None and parcel.draft is not None:
            return MissingDraft(DraftRef(parcel.draft, parcel.message_id))
        return copy or await self._create(parcel)

    async def _create(self, message: OutboundMessage) -> DraftRef | Outcome | None:
        made = await self.box.draft(message)
        if isinstance(made, DraftRef):
            self._drew = True
            return made
        if _refused(made):
            self._left[message.delivery] = DraftState(message.attempt, None)
        return await self._no_draft(RequestStep.DRAFT, made, message)

    async def _no_draft(self, step: RequestStep, response: Response, message: OutboundMessage) -> Outcome | None:
        """None where messages go without drafts; a message that lay ready as one may be on its way, and is not sent again blindly."""
        if message.draft is None and _forbidden(response) and await self._only_sends(message.sender):
            self.by_draft = False
            return None
        return classify_response(step, response, self.box.name, reached=self.box.reached)

    async def _only_sends(self, sender: str) -> bool:
        """Whether the app certainly may not keep drafts here, so that a 403 is no mood of the service.

        A token that names permissions for mail tells. What Exchange itself grants (RBAC for Applications) is in no token: then no draft
        was ever made here, and Drafts itself is closed too.
        """
        try:
            token = await self.box.graph.token()
        except Error:
            return False
        named = [one for one in token.roles | token.scopes if one.startswith("Mail.")]
        if self._drew or any(one.startswith("Mail.ReadWrite") for one in named):
            return False
        return bool(named) or (not await self._drafted(sender) and _forbidden(await self.box.drafts()))

    # --- after it ------------------------------------------------------------------------------------------------------

    async def _send(self, draft: DraftRef, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        self._left[message.delivery] = DraftState(message.attempt, draft)
        if not await record_intent(draft):
            return NOT_OURS
        del self._left[message.delivery]
        outcome = classify_response(RequestStep.SEND, await self.box.send(draft.id), self.box.name, reached=self.box.reached)
        match outcome:
            case NotSent():
                self._left[message.delivery] = DraftState(message.attempt, draft)
            case Rejected():
                await self.box.remove(draft.id)
            case Accepted():
                self._news()
        return outcome

    async def _sent_already(self, copy: MailboxMessage, record_intent: CommitIntent) -> Outcome:
        """An earlier attempt got through, and its answer was lost."""
        if not await record_intent(DraftRef(copy.id, copy.message_id)):
            return NOT_OURS
        self._news()
        return Accepted(f"found in Sent Items, sent at {copy.sent_at}")

    async def _vanished(self, draft: DraftRef, record_intent: CommitIntent) -> Outcome:
        """Nothing is sent; the note only says under which name the message is looked for."""
        if not await record_intent(draft):
            return NOT_OURS
        return Ambiguous("the draft that was to be sent is gone, and there is no copy of it: it may be on its way")

    async def _send_mail(self, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        if not await record_intent():
            return NOT_OURS
        outcome = classify_response(RequestStep.SENDMAIL, await self.box.send_mail(message), self.box.name, reached=self.box.reached)
        if isinstance(outcome, Accepted):
            self.mailed += 1
            self._news()
        return outcome


def _forbidden(response: Response) -> bool:
    return isinstance(response, HttpResponse) and response.status == _FORBIDDEN


def _refused(response: Response) -> bool:
    """Whether it is certain that no draft was made."""
    match response:
        case HttpResponse(status=status):
            return 400 <= status < 500 and status != 408  # noqa: PLR2004  the first digit is the class, and 408 is a time-out
        case NoResponse(request_sent=begun):
            return not begun
    return True
