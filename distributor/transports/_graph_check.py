"""A registration and its mailboxes -> what `doctor` says of them: sign-in, permissions, whose mailboxes they open, and each mailbox.

Nothing is sent. Whether an app may send at all is in its token, unless Exchange itself grants it (RBAC for Applications): then it is seen
by a request that could never become a letter, which is refused for its form or for want of a permission.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from distributor.clients.entra import SignIn, Token
from distributor.clients.graph import Answer, Graph, trouble
from distributor.core.findings import Remark
from distributor.core.outcomes import Unsent
from distributor.errors import Error
from distributor.transports._graph_answers import PERMISSIONS, Heard, Step, judge
from distributor.transports._graph_box import Box
from distributor.transports._graph_rights import narrowing, needless

NEEDED = ("Mail.Send", "Mail.ReadWrite")
ODD, WRONG = timedelta(seconds=30), timedelta(minutes=5)  # of the clock
_FORBIDDEN = 403


async def examine(graph: Graph, who: SignIn, boxes: Sequence[Box], *, save_copy: bool) -> list[Remark]:
    """The good news in one line, then whatever is not good."""
    try:
        token = await graph.token()
    except Error as error:
        return [Remark("transport", "error", str(error), error.hint)]
    found: list[Remark] = []
    good: list[str] = []
    for box in boxes:
        news = await _mailbox(box, token, save_copy=save_copy)
        found += news
        good += [] if any(remark.level == "error" for remark in news) else [box.name]
    found = [*_rights(token, who, [box.name for box in boxes]), *found, *_clock(graph.skew)]
    return [Remark("transport", "ok", f"{graph.where} answers; {_signed_in(who)}{_opens(good)}"), *found]


def _signed_in(who: SignIn) -> str:
    name = f"app {who.client_id}" if who.client_id else "this machine's identity"
    where = f" of tenant {who.tenant}" if who.tenant else ""
    return f"signed in with a person's account, by {name}{where}" if who.device_code else f"signed in as {name}{where}"


def _opens(mailboxes: Sequence[str]) -> str:
    return f"; letters can leave through {', '.join(mailboxes)}" if mailboxes else ""


# --- the registration ----------------------------------------------------------------------------------------------------


def _rights(token: Token, who: SignIn, mailboxes: Sequence[str]) -> Iterator[Remark]:
    """What the token shows: too much, or too little."""
    wide = sorted(role for role in token.roles if role.startswith("Mail."))
    if wide:
        told = (
            f"{' and '.join(wide)}: granted for the whole tenant; unless an application access policy forbids it, anybody's mailbox is open"
        )
        yield Remark("transport", "warning", told, narrowing(who.client_id, mailboxes, wide))
    if more := needless(token.roles | token.scopes):
        told = f"permissions that nothing here needs: {', '.join(more)}"
        yield Remark(
            "transport", "warning", told, f"remove them: Entra, App registrations, {who.client_id or 'the identity'}, API permissions"
        )


def _clock(skew: timedelta | None) -> Iterator[Remark]:
    if skew is None or abs(skew) <= ODD:
        return
    seconds = round(abs(skew).total_seconds())
    told = f"this machine's clock is {seconds} s {'behind' if skew > timedelta() else 'ahead of'} the service's"
    level = "error" if abs(skew) > WRONG else "warning"
    yield Remark("transport", level, told, "set the clock, and let it be kept by NTP: timedatectl set-ntp true")


# --- a mailbox -----------------------------------------------------------------------------------------------------------


async def _mailbox(box: Box, token: Token, *, save_copy: bool) -> list[Remark]:
    shown = {one for one in token.roles | token.scopes if one.startswith("Mail.")}
    heard = await box.ask("GET", "mailFolders/drafts/messages", params={"$top": "1", "$select": "id"})
    no_drafts = isinstance(heard, Answer) and heard.status == _FORBIDDEN and "Mail.ReadWrite" not in shown
    if not no_drafts and (wrong := _unreachable(heard, box.name)):
        return [wrong]
    if "Mail.Send" not in shown and await _may_not_send(box):
        return [Remark("transport", "error", f"{box.name}: the app may not send from it", PERMISSIONS.format(mailbox=box.name))]
    if no_drafts or (shown and "Mail.ReadWrite" not in shown and any(one.startswith("Mail.Read") for one in shown)):
        return [_without_drafts(box.name, save_copy=save_copy)]
    return []


def _unreachable(heard: Heard, mailbox: str) -> Remark | None:
    match heard:
        case Answer(status=200):
            return None
        case Answer(status=429, retry_after=wait):
            seconds = "" if wait is None else f" for {round(wait.total_seconds())} s"
            told = f"{mailbox}: the service holds the app back{seconds}"
            return Remark("transport", "warning", told, "run `distributor doctor` again after that; letters wait by themselves")
        case Error():
            return Remark("transport", "error", str(heard), heard.hint)
    match judge(Step.LOOK, heard, mailbox, reached=True):
        case Unsent(stop=Error() as stop):
            return Remark("transport", "error", str(stop), stop.hint)
        case _:
            stop = trouble(heard, mailbox)
            return Remark("transport", "error", str(stop), stop.hint)


async def _may_not_send(box: Box) -> bool:
    """A letter that is no base64 can be nothing but refused."""
    heard = await box.ask("POST", "sendMail", content=b"!", headers={"content-type": "text/plain"})
    return isinstance(heard, Answer) and heard.status == _FORBIDDEN


def _without_drafts(mailbox: str, *, save_copy: bool) -> Remark:
    costs = "an answer that is lost cannot be looked up" + ("" if save_copy else ", and `save_copy = false` cannot be honoured")
    told = f"{mailbox}: without Mail.ReadWrite letters go by sendMail; {costs}"
    return Remark("transport", "warning", told, PERMISSIONS.format(mailbox=mailbox))
