"""One mailbox's letters in a run: draft, ARM, send; or, where drafts are not allowed, ARM and sendMail -> Outcomes.

The draft is what makes it safe. It may be made again, for surplus drafts are found by the Message-ID and removed; it is sent only once,
for a second send finds nothing; and what became of it is seen in the mailbox when the answer to `send` is lost.
"""

from __future__ import annotations

from dataclasses import dataclass

from distributor.clients.graph import Answer, Lost
from distributor.clients.sent import Found
from distributor.core.outcomes import Accepted, Handle, Outcome, Parcel, Rejected, Unsent
from distributor.core.ports import ArmCall
from distributor.errors import Error
from distributor.transports._graph_answers import Heard, Step, judge
from distributor.transports._graph_box import Box

NOT_OURS = Unsent("another sender holds this letter")
_FORBIDDEN = 403


@dataclass(frozen=True, slots=True)
class Left:
    """What certainly lies in the mailbox after an attempt of this run that was certainly not sent; no draft: nothing."""

    attempt: int
    draft: Handle | None


class Mailbox:
    """`by_draft` becomes False when the mailbox refuses drafts to an app that may only send; decided once a run."""

    def __init__(self, box: Box, *, gathers: bool) -> None:
        """`gathers`: whether to remember what was sent, for whoever removes the copies."""
        self.box = box
        self.by_draft = True
        self.used = False  # a letter was accepted
        self.sent: set[str] = set()  # Message-IDs of accepted letters
        self._gathers = gathers
        self.since: str | None = None  # when a copy of an earlier run was sent, if one was found
        self._left: dict[str, Left] = {}  # by delivery

    async def deliver(self, parcel: Parcel, arm: ArmCall) -> Outcome:
        """Carry one letter; see core.ports.Lane."""
        ready = await self._ready(parcel) if self.by_draft else None
        match ready:
            case Handle():
                return await self._send(ready, parcel, arm)
            case Found():
                return await self._sent_already(ready, arm)
            case None:
                return await self._send_mail(parcel, arm)
            case _:
                return ready

    def remember(self, copy: Found) -> None:
        """A letter of this mailbox that left, perhaps in an earlier run."""
        self._accepted(copy.message_id)
        self.since = min(self.since or copy.sent_at, copy.sent_at)

    def _accepted(self, message_id: str) -> None:
        self.used = True
        if self._gathers:
            self.sent.add(message_id)

    # --- before the ARM ------------------------------------------------------------------------------------------------

    async def _ready(self, parcel: Parcel) -> Handle | Found | Outcome | None:
        """A draft to send, the copy of a letter that was sent already, why there is neither; None: no drafts here."""
        left = self._left.pop(parcel.delivery, None)
        if left is not None and left.attempt == parcel.attempt - 1:
            return left.draft or await self._create(parcel)
        return await self._create(parcel) if parcel.attempt == 1 else await self._look(parcel)

    async def _look(self, parcel: Parcel) -> Handle | Found | Outcome | None:
        """What earlier attempts left. Of several drafts the newest is the one that may have been tried."""
        found = await self.box.find(parcel.message_id)
        if not isinstance(found, list):
            return await self._no_draft(Step.LOOK, found)
        drafts = [message for message in found if message.draft]
        copy = next((message for message in found if not message.draft), None)
        for surplus in drafts if copy else drafts[1:]:
            await self.box.remove(surplus.id)
        if copy is None and drafts:
            return Handle(drafts[0].id, drafts[0].message_id or parcel.message_id)
        return copy or await self._create(parcel)

    async def _create(self, parcel: Parcel) -> Handle | Outcome | None:
        made = await self.box.draft(parcel)
        if isinstance(made, Handle):
            return made
        if _refused(made):
            self._left[parcel.delivery] = Left(parcel.attempt, None)
        return await self._no_draft(Step.DRAFT, made)

    async def _no_draft(self, step: Step, heard: Heard) -> Outcome | None:
        if isinstance(heard, Answer) and heard.status == _FORBIDDEN and not await self._may_write():
            self.by_draft = False
            return None
        return judge(step, heard, self.box.name, reached=self.box.reached)

    async def _may_write(self) -> bool:
        """Whether the app was given drafts; what Exchange itself grants (RBAC for Applications) is not in its token."""
        try:
            token = await self.box.graph.token()
        except Error:
            return True
        return any(one.startswith("Mail.ReadWrite") for one in token.roles | token.scopes)

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
                self._accepted(draft.message_id)
        return outcome

    async def _sent_already(self, copy: Found, arm: ArmCall) -> Outcome:
        """An earlier attempt got through, and its answer was lost."""
        if not await arm(Handle(copy.id, copy.message_id)):
            return NOT_OURS
        self.remember(copy)
        return Accepted(f"found in Sent Items, sent at {copy.sent_at}")

    async def _send_mail(self, parcel: Parcel, arm: ArmCall) -> Outcome:
        if not await arm():
            return NOT_OURS
        outcome = judge(Step.SENDMAIL, await self.box.send_mail(parcel), self.box.name, reached=self.box.reached)
        if isinstance(outcome, Accepted):
            self._accepted(parcel.message_id)
        return outcome


def _refused(heard: Heard) -> bool:
    """Whether it is certain that no draft was made."""
    match heard:
        case Answer(status=status):
            return 400 <= status < 500 and status != 408  # noqa: PLR2004  the first digit is the class, and 408 is a time-out
        case Lost(begun=begun):
            return not begun
    return True
