"""One mailbox's letters in a run: draft, ARM, send; or, where drafts are not allowed, ARM and sendMail -> Outcomes.

The draft is what makes it safe. It may be made again, for surplus drafts are found by the Message-ID and removed; it is sent only once,
for a second send finds nothing; and what became of it is seen in the mailbox when the answer to `send` is lost. So sendMail is for
mailboxes in which drafts are certainly forbidden, and never for a letter that lay ready as a draft before.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from distributor.adapters.transports.graph.api import Box
from distributor.adapters.transports.graph.responses import Heard, Step, judge
from distributor.clients.graph import Answer, Lost
from distributor.clients.sent_items import Found
from distributor.errors import Error
from distributor.model.outcomes import Accepted, Ambiguous, Handle, Outcome, Parcel, Rejected, Unsent
from distributor.model.ports import ArmCall

NOT_OURS = Unsent("another sender holds this letter")
_FORBIDDEN = 403


@dataclass(frozen=True, slots=True)
class Left:
    """What certainly lies in the mailbox after an attempt of this run that was certainly not sent; no draft: nothing."""

    attempt: int
    draft: Handle | None


@dataclass(frozen=True, slots=True)
class Gone:
    """A draft that was to be sent, and of which nothing is seen any more."""

    draft: Handle


class Mailbox:
    """`by_draft` becomes False when the mailbox certainly refuses drafts to an app that may only send; decided once a run."""

    def __init__(self, box: Box, *, drafted: Callable[[str], Awaitable[bool]], news: Callable[[], None]) -> None:
        """`drafted`: whether earlier runs had drafts of a sender, True where nobody knows. `news`: a letter was accepted."""
        self.box = box
        self.by_draft = True
        self.mailed = 0  # letters that were accepted without a draft
        self._drafted = drafted
        self._drew = False  # a draft was made in this run
        self._news = news
        self._left: dict[str, Left] = {}  # by delivery

    async def deliver(self, parcel: Parcel, arm: ArmCall) -> Outcome:
        """Carry one letter; see core.ports.Lane."""
        ready = await self._ready(parcel)
        match ready:
            case Handle():
                return await self._send(ready, parcel, arm)
            case Found():
                return await self._sent_already(ready, arm)
            case Gone(draft):
                return await self._vanished(draft, arm)
            case None:
                return await self._send_mail(parcel, arm)
            case _:
                return ready

    # --- before the ARM ------------------------------------------------------------------------------------------------

    async def _ready(self, parcel: Parcel) -> Handle | Found | Gone | Outcome | None:
        """A draft to send, the copy of a letter that was sent already, why there is neither; None: no drafts here."""
        if not self.by_draft and parcel.handle is None:
            return None
        left = self._left.pop(parcel.delivery, None)
        if left is not None and left.attempt == parcel.attempt - 1:
            return left.draft or await self._create(parcel)
        return await self._create(parcel) if parcel.attempt == 1 else await self._look(parcel)

    async def _look(self, parcel: Parcel) -> Handle | Found | Gone | Outcome | None:
        """What earlier attempts left. Of several drafts it is the armed one that may have been tried; without one, the newest.

        Where the armed one is gone and no copy is there, it may be on its way, whatever else lies there.
        """
        found = await self.box.find(parcel.message_id)
        if not isinstance(found, list):
            return await self._no_draft(Step.LOOK, found, parcel)
        copy = next((message for message in found if not message.draft), None)
        drafts = [message for message in found if message.draft]
        tried = None if copy else next((message for message in drafts if parcel.handle in {None, message.id}), None)
        for surplus in drafts:
            if surplus is not tried:
                await self.box.remove(surplus.id)
        if tried is not None:
            return Handle(tried.id, tried.message_id or parcel.message_id)
        if copy is None and parcel.handle is not None:
            return Gone(Handle(parcel.handle, parcel.message_id))
        return copy or await self._create(parcel)

    async def _create(self, parcel: Parcel) -> Handle | Outcome | None:
        made = await self.box.draft(parcel)
        if isinstance(made, Handle):
            self._drew = True
            return made
        if _refused(made):
            self._left[parcel.delivery] = Left(parcel.attempt, None)
        return await self._no_draft(Step.DRAFT, made, parcel)

    async def _no_draft(self, step: Step, heard: Heard, parcel: Parcel) -> Outcome | None:
        """None where letters go without drafts; a letter that lay ready as one may be on its way, and is not sent again blindly."""
        if parcel.handle is None and _forbidden(heard) and await self._only_sends(parcel.sender):
            self.by_draft = False
            return None
        return judge(step, heard, self.box.name, reached=self.box.reached)

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

    async def _send(self, draft: Handle, parcel: Parcel, arm: ArmCall) -> Outcome:
        self._left[parcel.delivery] = Left(parcel.attempt, draft)
        if not await arm(draft):
            return NOT_OURS
        del self._left[parcel.delivery]
        outcome = judge(Step.SEND, await self.box.send(draft.id), self.box.name, reached=self.box.reached)
        match outcome:
            case Unsent():
                self._left[parcel.delivery] = Left(parcel.attempt, draft)
            case Rejected():
                await self.box.remove(draft.id)
            case Accepted():
                self._news()
        return outcome

    async def _sent_already(self, copy: Found, arm: ArmCall) -> Outcome:
        """An earlier attempt got through, and its answer was lost."""
        if not await arm(Handle(copy.id, copy.message_id)):
            return NOT_OURS
        self._news()
        return Accepted(f"found in Sent Items, sent at {copy.sent_at}")

    async def _vanished(self, draft: Handle, arm: ArmCall) -> Outcome:
        """Nothing is sent; the note only says under which name the letter is looked for."""
        if not await arm(draft):
            return NOT_OURS
        return Ambiguous("the draft that was to be sent is gone, and there is no copy of it: it may be on its way")

    async def _send_mail(self, parcel: Parcel, arm: ArmCall) -> Outcome:
        if not await arm():
            return NOT_OURS
        outcome = judge(Step.SENDMAIL, await self.box.send_mail(parcel), self.box.name, reached=self.box.reached)
        if isinstance(outcome, Accepted):
            self.mailed += 1
            self._news()
        return outcome


def _forbidden(heard: Heard) -> bool:
    return isinstance(heard, Answer) and heard.status == _FORBIDDEN


def _refused(heard: Heard) -> bool:
    """Whether it is certain that no draft was made."""
    match heard:
        case Answer(status=status):
            return 400 <= status < 500 and status != 408  # noqa: PLR2004  the first digit is the class, and 408 is a time-out
        case Lost(begun=begun):
            return not begun
    return True
