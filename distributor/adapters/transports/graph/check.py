"""Checks an app registration and its mailboxes for `doctor`: sign-in, permissions, which mailboxes they open, and each mailbox.

Nothing is sent and nothing is stored. Whether an app may send or keep drafts is in its token, unless Exchange itself grants it (RBAC for
Applications): then requests that could never become a message show it: they are refused for their form, or because a permission is missing.
"""

from __future__ import annotations

from collections.abc import Sequence

from distributor.adapters.transports.graph.api import GraphMailboxApi
from distributor.adapters.transports.graph.responses import RequestStep, Response, classify_response
from distributor.clients import entra
from distributor.clients.app_registration import AccessToken, AppRegistration
from distributor.clients.graph import GraphClient, HttpResponse, service_error
from distributor.errors import Error
from distributor.microsoft import permissions, powershell
from distributor.microsoft.permissions import KEEP_DRAFTS, SEND, MailboxDenied, PermissionUse, excess_permissions, let_in, remedy
from distributor.microsoft.powershell import WINDOW, App, steps
from distributor.model.attempts import NotSent
from distributor.model.issues import Diagnostic

NEEDS = (SEND, KEEP_DRAFTS)
NEEDED = tuple(need.permission for need in NEEDS)
_BAD_FORM, _FORBIDDEN = 400, 403
_BOTH = "the app needs both Mail.Send and Mail.ReadWrite for this mailbox"
_NOBODY = frozenset({"ErrorInvalidUser", "Request_ResourceNotFound"})
_NO_MAILBOX = frozenset({"MailboxNotEnabledForRESTAPI", "MailboxNotSupportedForRESTAPI", "ErrorNonExistentMailbox"})


async def examine(graph: GraphClient, who: AppRegistration, boxes: Sequence[GraphMailboxApi], *, save_copy: bool) -> list[Diagnostic]:
    """What works in one line, then what does not."""
    try:
        token = await graph.token()
    except Error as error:
        app = App(who.tenant, who.client_id, service=graph.root)
        return [Diagnostic("transport", "error", str(error), remedy(str(error), error.hint, app, NEEDED))]
    granted = entra.granted(token, who, graph.root)
    uses = [PermissionUse("transport", NEEDS, tuple(box.name for box in boxes))]
    found: list[Diagnostic] = []
    good: list[str] = []
    for box in boxes:
        issues = await _mailbox(box, token, granted.app, save_copy=save_copy)
        found += [let_in(diagnostic, granted.app, uses) if isinstance(diagnostic, MailboxDenied) else diagnostic for diagnostic in issues]
        good += [] if any(diagnostic.level == "error" for diagnostic in issues) else [box.name]
    found = [*excess_permissions("transport", granted, uses), *found, *permissions.clock_skew_check(graph.skew)]
    return [Diagnostic("transport", "ok", f"{graph.where} responds; {_signed_in(who)}{_opens(good)}"), *found]


def _signed_in(who: AppRegistration) -> str:
    name = f"app {who.client_id}" if who.client_id else "this machine's identity"
    where = f" of tenant {who.tenant}" if who.tenant else ""
    return f"signed in with a person's account, by {name}{where}" if who.device_code else f"signed in as {name}{where}"


def _opens(mailboxes: Sequence[str]) -> str:
    return f"; can send from {', '.join(mailboxes)}" if mailboxes else ""


# --- a mailbox -----------------------------------------------------------------------------------------------------------


async def _mailbox(box: GraphMailboxApi, token: AccessToken, app: App, *, save_copy: bool) -> list[Diagnostic]:
    shown = {one for one in token.roles | token.scopes if one.startswith("Mail.")}
    response = await box.ask("GET", "mailFolders/drafts/messages", params={"$top": "1", "$select": "id"})
    closed = isinstance(response, HttpResponse) and response.status == _FORBIDDEN and "Mail.ReadWrite" not in shown
    if not closed and (wrong := _unreachable(response, box.name, app)):
        return [wrong]
    if "Mail.Send" not in shown and (wrong := _may_not_send(await _probe(box, "sendMail"), box.name, app)):
        return [wrong]
    if "Mail.ReadWrite" in shown:
        return []
    return await _drafts(box, closed=closed, save_copy=save_copy)


async def _drafts(box: GraphMailboxApi, *, closed: bool, save_copy: bool) -> list[Diagnostic]:
    """Whether drafts can be made; that they can be read proves nothing: the app may have the role of reading only."""
    response = None if closed else await _probe(box, "messages")
    if isinstance(response, HttpResponse) and response.status == _BAD_FORM:
        return []
    if response is None or (isinstance(response, HttpResponse) and response.status == _FORBIDDEN):
        return [_without_drafts(box.name, save_copy=save_copy)]
    return [_unproved(box.name)]


async def _probe(box: GraphMailboxApi, path: str) -> Response:
    """Post what is no base64: it is always refused, for its form or because a permission is missing."""
    return await box.ask("POST", path, content=b"!", headers={"content-type": "text/plain"})


def _may_not_send(response: Response, mailbox: str, app: App) -> Diagnostic | None:
    """None where the form was refused, so the permission is there; other answers prove nothing."""
    match response:
        case HttpResponse(status=403):
            return MailboxDenied("transport", "error", f"{mailbox}: the app is not allowed to send from it", why=_BOTH)
        case HttpResponse(status=400):
            return None
    return _unreachable(response, mailbox, app) if not isinstance(response, HttpResponse) or not response.good else _unproved(mailbox)


def _unproved(mailbox: str) -> Diagnostic:
    message = f"{mailbox}: could not check whether the app may send from it and create drafts in it"
    return Diagnostic("transport", "warning", message, "send a test message to yourself: distributor send --to ADDRESS")


def _unreachable(response: Response, mailbox: str, app: App) -> Diagnostic | None:
    match response:
        case HttpResponse(status=200):
            return None
        case HttpResponse(status=429, retry_after=wait):
            seconds = "" if wait is None else f" for {round(wait.total_seconds())} s"
            message = f"{mailbox}: the service throttles the app{seconds}"
            return Diagnostic(
                "transport", "warning", message, "run `distributor doctor` again after that; `distributor send` waits by itself"
            )
        case Error():
            return Diagnostic("transport", "error", str(response), remedy(str(response), response.hint, app, NEEDED))
    match classify_response(RequestStep.LOOK, response, mailbox, reached=True):
        case NotSent(fatal=Error() as stop):
            pass
        case _:
            stop = service_error(response, mailbox)
    return _refused(response, stop, mailbox, app)


def _refused(response: Response, stop: Error, mailbox: str, app: App) -> Diagnostic:
    code, status = (response.code, response.status) if isinstance(response, HttpResponse) else ("", 0)
    if status == _FORBIDDEN:
        return MailboxDenied("transport", "error", str(stop), why=_BOTH)
    if code in _NOBODY:
        line = powershell.shared_mailbox(app, mailbox)
        return Diagnostic("transport", "error", str(stop), steps(f"{stop.hint}; or make a shared mailbox, {WINDOW}:", (line,)))
    if code in _NO_MAILBOX:
        line = powershell.licence(app, mailbox)
        return Diagnostic("transport", "error", str(stop), steps(f"{stop.hint}. To assign a free licence, {WINDOW}:", (line,)))
    return Diagnostic("transport", "error", str(stop), stop.hint)


def _without_drafts(mailbox: str, *, save_copy: bool) -> Diagnostic:
    costs = "if a response is lost, its message cannot be looked up" + ("" if save_copy else ", and `save_copy = false` has no effect")
    return MailboxDenied("transport", "warning", f"{mailbox}: without Mail.ReadWrite messages are sent by sendMail; {costs}", why=_BOTH)
