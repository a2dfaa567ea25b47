"""Letters whose fate is unclear -> what the sending mailbox knows of them by their Message-ID: a copy in Sent Items, or still a draft."""

from __future__ import annotations

from dataclasses import dataclass

from distributor.clients.entra import SignIn, check, registration
from distributor.clients.graph import ROOT, graph
from distributor.clients.sent import SentItems
from distributor.errors import Unusable


@dataclass(frozen=True)
class Settings(SignIn):
    """`[[trackers]]` of kind graph: the keys of the registration, and these. It needs Mail.ReadBasic.All, Mail.Read or Mail.ReadWrite."""

    mailbox: str = ""
    senders: tuple[str, ...] = ()  # addresses that letters are sent from through it, where they differ from its name
    graph: str = ROOT
    reply_timeout: float = 100.0  # seconds


def open(settings: Settings) -> SentItems:  # noqa: A001  every adapter is opened by this name
    """The tracker; connects when it is asked. Raises Unusable."""
    if wrong := check(settings, "transport"):
        raise wrong
    if not settings.mailbox:
        raise Unusable("missing", where="transport.mailbox", hint="write the mailbox whose Sent Items are to be looked into")
    known = {one.casefold() for one in (settings.mailbox, *settings.senders)}

    def mailbox(sender: str | None) -> str | None:
        return settings.mailbox if sender is None or sender.casefold() in known else None

    return SentItems(graph(registration(settings), settings.graph), mailbox, timeout=settings.reply_timeout)
