"""A mail server and its accounts -> what `doctor` says of them: whether it answers, each sign-in, and what a token shows of the app.

A token for Exchange Online names the app's permissions there; which mailboxes it may open is seen by signing in as each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from distributor.adapters.transports.smtp.connect import Down, Server
from distributor.adapters.transports.smtp.replies import Reply, Verb
from distributor.adapters.transports.smtp.session import Session
from distributor.clients.entra import SignIn, Token
from distributor.errors import Error
from distributor.microsoft import clock_skew, is_exchange_online, powershell
from distributor.microsoft.powershell import EXCHANGE, WINDOW, App, steps
from distributor.microsoft.sign_in_remedies import mend
from distributor.model.delivery import Account
from distributor.model.issues import Remark
from distributor.model.outcomes import Unsent

NEEDED = "SMTP.SendAsApp"
_HIGH_VOLUME = "smtp-hve."  # its hosts begin so, and want Mail.Send of the same service (facts: sending.md 4)
_PERSONS = "SMTP.Send"
_UNBELIEVED = frozenset({"", "5.7.3", "5.7.8"})
_SWITCHED_OFF = "smtpclientauthentication is disabled"


class Signed(Protocol):
    """How the road signs in with tokens, and what they are for."""

    @property
    def oauth(self) -> SignIn | None:
        """None: with passwords."""
        ...

    @property
    def resource(self) -> str:
        """The root of the service."""
        ...


class Road(Protocol):
    """What is asked of the transport."""

    server: Server

    @property
    def settings(self) -> Signed:
        """Its table."""
        ...

    async def dial(self, account: Account) -> Session | Down:
        """A connection, signed in."""
        ...

    def unconnected(self, down: Down) -> Unsent:
        """What it means that there is none."""
        ...

    async def token(self) -> Token | None:
        """That of all connections. Raises Unavailable."""
        ...

    def signed_in(self, account: Account) -> str:
        """As whom, in words."""
        ...


async def examine(road: Road, accounts: Sequence[Account]) -> list[Remark]:
    """A line an account, then what is not good about the app."""
    token = await _token(road)
    who = road.settings.oauth or SignIn()
    app = App(who.tenant, who.client_id, token.holder if isinstance(token, Token) else "", road.settings.resource)
    found = [await _look(road, account, app) for account in accounts]
    if isinstance(token, Token):
        found += [*_rights(token, app, _needed(road)), *clock_skew.off(token.skew)]
    return [*found, *([_copies(app, accounts)] if is_exchange_online(road.server.host) else [])]


async def _token(road: Road) -> Token | Error | None:
    """That of all connections. What is wrong with it every account tells."""
    try:
        return await road.token()
    except Error as error:
        return error


def _needed(road: Road) -> str:
    return "Mail.Send" if road.server.host.lower().startswith(_HIGH_VOLUME) else NEEDED


# --- accounts --------------------------------------------------------------------------------------------------------


async def _look(road: Road, account: Account, app: App) -> Remark:
    match await road.dial(account):
        case Down(error=error) as down:
            refused = road.unconnected(down).stop or error
            return Remark("transport", "error", str(refused), _way_out(down, refused, account, app, road))
        case session:
            offers = [name for name in ("dsn", "smtputf8", "8bitmime", "size") if session.offers(name)]
            await session.quit()
            answers = f"{road.server.where} answers{road.signed_in(account)}"
            return Remark("transport", "ok", f"{answers}; offers {', '.join(offers) or 'nothing special'}")


def _way_out(down: Down, refused: Error, account: Account, app: App, road: Road) -> str | None:
    mailbox = account.username or account.address
    match down.heard:
        case Reply(text=text) if _SWITCHED_OFF in text.lower() and mailbox:
            prose = f"SMTP sign-in is off for this mailbox; switch it on, {WINDOW} (security defaults switch it off for the whole tenant):"
            return steps(prose, (powershell.smtp_sign_in(app, mailbox),))
        case Reply(code=535) as reply if down.verb is Verb.AUTH and reply.status in _UNBELIEVED and road.settings.oauth:
            prose = f"let the app into the mailbox, {WINDOW}, and wait half an hour:"
            return steps(prose, (powershell.full_access(app, mailbox),))
    return mend(str(refused), refused.hint, app, (_needed(road),), EXCHANGE) if road.settings.oauth else refused.hint


# --- the app ---------------------------------------------------------------------------------------------------------


def _rights(token: Token, app: App, needed: str) -> Iterator[Remark]:
    """Too little, or too much. Of a person's token only the first: it opens no more than the person may."""
    if not token.readable:
        return
    wanted = _PERSONS if token.scopes and not token.roles else needed
    if wanted not in token.roles | token.scopes:
        hint = steps(f"grant it, {WINDOW}, and wait half an hour:", (powershell.consent(app, [wanted], EXCHANGE),))
        yield Remark("transport", "error", f"the app lacks {wanted}; every letter would be refused", hint)
    if more := sorted(token.roles - {needed}):
        told = f"permissions that SMTP does not need: {', '.join(more)}{_everybody(more)}"
        yield Remark("transport", "warning", told, steps(f"take them back, {WINDOW}:", (powershell.taken_back(app, more, EXCHANGE),)))


def _everybody(more: Sequence[str]) -> str:
    """Those that open mailboxes without anybody having let the app in."""
    wide = [one for one in more if one == "full_access_as_app" or one.startswith("Mail.")]
    return f"; {' and '.join(wide)} is for every mailbox of the tenant" if wide else ""


def _copies(app: App, accounts: Sequence[Account]) -> Remark:
    told = "the service keeps a copy of every letter, package and all, in Sent Items; SMTP has no switch against it"
    boxes = [box for account in accounts if (box := account.username or account.address)] or ["MAILBOX"]
    return Remark("transport", "warning", told, steps(f"let it go after a day, {WINDOW}:", (powershell.short_memory(app, boxes),)))
