"""Checks a mail server and its accounts for `doctor`: whether it answers, each sign-in, and the app's permissions.

A token for Exchange Online names the app's permissions there; which mailboxes it may open shows only by signing in as each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from distributor.adapters.transports.smtp.connect import TOKEN_REJECTED_CODES, ConnectFailure, Server
from distributor.adapters.transports.smtp.replies import Phase, Reply
from distributor.adapters.transports.smtp.session import Session
from distributor.clients.app_registration import AccessToken, AppRegistration
from distributor.errors import Error
from distributor.microsoft import is_exchange_online, permissions, powershell
from distributor.microsoft.permissions import remedy
from distributor.microsoft.powershell import EXCHANGE, WINDOW, App, steps
from distributor.model.attempts import NotSent
from distributor.model.delivery import Account
from distributor.model.issues import Diagnostic

NEEDED = "SMTP.SendAsApp"
_HIGH_VOLUME = "smtp-hve."  # its hosts begin so, and want Mail.Send of the same service (facts: sending.md 4)
_PERSONS = "SMTP.Send"
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
    """What the check needs of the transport."""

    server: Server

    @property
    def settings(self) -> Signed:
        """The settings of its table."""
        ...

    async def connect(self, account: Account) -> Session | ConnectFailure:
        """A connection, signed in."""
        ...

    def unconnected(self, failure: ConnectFailure) -> NotSent:
        """What a failed connection means for a message."""
        ...

    async def token(self) -> AccessToken | None:
        """The token of all connections. Raises ServiceUnavailable."""
        ...

    def signed_in(self, account: Account) -> str:
        """As whom the account is signed in, as text."""
        ...


async def examine(transport: CheckedTransport, accounts: Sequence[Account]) -> list[Diagnostic]:
    """One line for each account, then what is wrong with the app."""
    token = await _token(transport)
    who = transport.settings.oauth or AppRegistration()
    app = App(who.tenant, who.client_id, token.holder if isinstance(token, AccessToken) else "", transport.settings.resource)
    found = [await _check_account(transport, account, app) for account in accounts]
    if isinstance(token, AccessToken):
        found += [*_permissions(token, app, _needed(transport)), *permissions.clock_skew_check(token.skew)]
    return [*found, *([_sent_items(app, accounts)] if is_exchange_online(transport.server.host) else [])]


async def _token(transport: CheckedTransport) -> AccessToken | Error | None:
    """The token of all connections; an error is reported by each account's check."""
    try:
        return await transport.token()
    except Error as error:
        return error


def _needed(transport: CheckedTransport) -> str:
    return "Mail.Send" if transport.server.host.lower().startswith(_HIGH_VOLUME) else NEEDED


# --- accounts --------------------------------------------------------------------------------------------------------


async def _check_account(transport: CheckedTransport, account: Account, app: App) -> Diagnostic:
    match await transport.connect(account):
        case ConnectFailure(error=error) as failure:
            refused = transport.unconnected(failure).fatal or error
            return Diagnostic("transport", "error", str(refused), _hint(failure, refused, account, app, transport))
        case session:
            offers = [name for name in ("dsn", "smtputf8", "8bitmime", "size") if session.offers(name)]
            await session.quit()
            answers = f"{transport.server.where} responds{transport.signed_in(account)}"
            return Diagnostic("transport", "ok", f"{answers}; extensions: {', '.join(offers) or 'none'}")


def _hint(failure: ConnectFailure, refused: Error, account: Account, app: App, transport: CheckedTransport) -> str | None:
    mailbox = account.username or account.address
    match failure.response:
        case Reply(text=text) if _SWITCHED_OFF in text.lower() and mailbox:
            prose = f"SMTP sign-in is off for this mailbox; switch it on, {WINDOW} (security defaults switch it off for the whole tenant):"
            return steps(prose, (powershell.smtp_sign_in(app, mailbox),))
        case Reply(code=535) as reply if failure.verb is Phase.AUTH and reply.status in TOKEN_REJECTED_CODES and transport.settings.oauth:
            prose = f"give the app access to the mailbox, {WINDOW}, and wait half an hour:"
            return steps(prose, (powershell.full_access(app, mailbox),))
    return remedy(str(refused), refused.hint, app, (_needed(transport),), EXCHANGE) if transport.settings.oauth else refused.hint


# --- the app ---------------------------------------------------------------------------------------------------------


def _permissions(token: AccessToken, app: App, needed: str) -> Iterator[Diagnostic]:
    """A missing permission, and excessive ones; the latter not of a person's token, which opens no more than the person may."""
    if not token.readable:
        return
    permission = _PERSONS if token.scopes and not token.roles else needed
    if permission not in token.roles | token.scopes:
        hint = steps(f"grant it, {WINDOW}, and wait half an hour:", (powershell.consent(app, [permission], EXCHANGE),))
        yield Diagnostic("transport", "error", f"the app lacks {permission}; every message would be rejected", hint)
    if more := sorted(token.roles - {needed}):
        message = f"permissions not needed for SMTP: {', '.join(more)}{_tenant_wide(more)}"
        yield Diagnostic("transport", "warning", message, steps(f"remove them, {WINDOW}:", (powershell.taken_back(app, more, EXCHANGE),)))


def _tenant_wide(more: Sequence[str]) -> str:
    """Text about permissions that open every mailbox of the tenant."""
    wide = [one for one in more if one == "full_access_as_app" or one.startswith("Mail.")]
    return f"; {' and '.join(wide)} gives access to every mailbox of the tenant" if wide else ""


def _sent_items(app: App, accounts: Sequence[Account]) -> Diagnostic:
    message = "the service keeps a copy of every message, with its attachment, in Sent Items; SMTP cannot prevent this"
    boxes = [box for account in accounts if (box := account.username or account.address)] or ["MAILBOX"]
    return Diagnostic(
        "transport",
        "warning",
        message,
        steps(f"to delete the copies after a day, {WINDOW}:", (powershell.sent_items_retention(app, boxes),)),
    )
