"""A mail server and its accounts -> what `doctor` says of them: whether it answers, each sign-in, and what a token shows of the app.

A token for Exchange Online names the app's permissions there; which mailboxes it may open is seen by signing in as each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from distributor.adapters.transports.smtp.connect import ConnectFailure, Server
from distributor.adapters.transports.smtp.replies import Phase, Reply
from distributor.adapters.transports.smtp.session import Session
from distributor.clients.app_registration import AccessToken, AppRegistration
from distributor.errors import Error
from distributor.microsoft import clock_skew, is_exchange_online, powershell
from distributor.microsoft.powershell import EXCHANGE, WINDOW, App, steps
from distributor.microsoft.sign_in_remedies import remedy
from distributor.model.delivery import Account
from distributor.model.issues import Diagnostic
from distributor.model.outcomes import NotSent

NEEDED = "SMTP.SendAsApp"
_HIGH_VOLUME = "smtp-hve."  # its hosts begin so, and want Mail.Send of the same service (facts: sending.md 4)
_PERSONS = "SMTP.Send"
_UNBELIEVED = frozenset({"", "5.7.3", "5.7.8"})
_SWITCHED_OFF = "smtpclientauthentication is disabled"


class Signed(Protocol):
    """How the transport signs in with tokens, and what they are for."""

    @property
    def oauth(self) -> AppRegistration | None:
        """None: with passwords."""
        ...

    @property
    def resource(self) -> str:
        """The root of the service."""
        ...


class CheckedTransport(Protocol):
    """What is asked of the transport."""

    server: Server

    @property
    def settings(self) -> Signed:
        """Its table."""
        ...

    async def connect(self, account: Account) -> Session | ConnectFailure:
        """A connection, signed in."""
        ...

    def unconnected(self, down: ConnectFailure) -> NotSent:
        """What it means that there is none."""
        ...

    async def token(self) -> AccessToken | None:
        """That of all connections. Raises Unavailable."""
        ...

    def signed_in(self, account: Account) -> str:
        """As whom, in words."""
        ...


async def examine(transport: CheckedTransport, accounts: Sequence[Account]) -> list[Diagnostic]:
    """A line an account, then what is not good about the app."""
    token = await _token(transport)
    who = transport.settings.oauth or AppRegistration()
    app = App(who.tenant, who.client_id, token.holder if isinstance(token, AccessToken) else "", transport.settings.resource)
    found = [await _look(transport, account, app) for account in accounts]
    if isinstance(token, AccessToken):
        found += [*_rights(token, app, _needed(transport)), *clock_skew.clock_skew_check(token.skew)]
    return [*found, *([_copies(app, accounts)] if is_exchange_online(transport.server.host) else [])]


async def _token(transport: CheckedTransport) -> AccessToken | Error | None:
    """That of all connections. What is wrong with it every account tells."""
    try:
        return await transport.token()
    except Error as error:
        return error


def _needed(transport: CheckedTransport) -> str:
    return "Mail.Send" if transport.server.host.lower().startswith(_HIGH_VOLUME) else NEEDED


# --- accounts --------------------------------------------------------------------------------------------------------


async def _look(transport: CheckedTransport, account: Account, app: App) -> Diagnostic:
    match await transport.connect(account):
        case ConnectFailure(error=error) as down:
            refused = transport.unconnected(down).fatal or error
            return Diagnostic("transport", "error", str(refused), _way_out(down, refused, account, app, transport))
        case session:
            offers = [name for name in ("dsn", "smtputf8", "8bitmime", "size") if session.offers(name)]
            await session.quit()
            answers = f"{transport.server.where} answers{transport.signed_in(account)}"
            return Diagnostic("transport", "ok", f"{answers}; offers {', '.join(offers) or 'nothing special'}")


def _way_out(down: ConnectFailure, refused: Error, account: Account, app: App, transport: CheckedTransport) -> str | None:
    mailbox = account.username or account.address
    match down.heard:
        case Reply(text=text) if _SWITCHED_OFF in text.lower() and mailbox:
            prose = f"SMTP sign-in is off for this mailbox; switch it on, {WINDOW} (security defaults switch it off for the whole tenant):"
            return steps(prose, (powershell.smtp_sign_in(app, mailbox),))
        case Reply(code=535) as reply if down.verb is Phase.AUTH and reply.status in _UNBELIEVED and transport.settings.oauth:
            prose = f"let the app into the mailbox, {WINDOW}, and wait half an hour:"
            return steps(prose, (powershell.full_access(app, mailbox),))
    return remedy(str(refused), refused.hint, app, (_needed(transport),), EXCHANGE) if transport.settings.oauth else refused.hint


# --- the app ---------------------------------------------------------------------------------------------------------


def _rights(token: AccessToken, app: App, needed: str) -> Iterator[Diagnostic]:
    """Too little, or too much. Of a person's token only the first: it opens no more than the person may."""
    if not token.readable:
        return
    wanted = _PERSONS if token.scopes and not token.roles else needed
    if wanted not in token.roles | token.scopes:
        hint = steps(f"grant it, {WINDOW}, and wait half an hour:", (powershell.consent(app, [wanted], EXCHANGE),))
        yield Diagnostic("transport", "error", f"the app lacks {wanted}; every message would be refused", hint)
    if more := sorted(token.roles - {needed}):
        told = f"permissions that SMTP does not need: {', '.join(more)}{_everybody(more)}"
        yield Diagnostic("transport", "warning", told, steps(f"take them back, {WINDOW}:", (powershell.taken_back(app, more, EXCHANGE),)))


def _everybody(more: Sequence[str]) -> str:
    """Those that open mailboxes without anybody having let the app in."""
    wide = [one for one in more if one == "full_access_as_app" or one.startswith("Mail.")]
    return f"; {' and '.join(wide)} is for every mailbox of the tenant" if wide else ""


def _copies(app: App, accounts: Sequence[Account]) -> Diagnostic:
    told = "the service keeps a copy of every message, package and all, in Sent Items; SMTP has no switch against it"
    boxes = [box for account in accounts if (box := account.username or account.address)] or ["MAILBOX"]
    return Diagnostic(
        "transport", "warning", told, steps(f"let it go after a day, {WINDOW}:", (powershell.sent_items_retention(app, boxes),))
    )
