"""Looks ambiguous messages up in the sending mailbox by their Message-ID: a copy in Sent Items, or still a draft."""

from __future__ import annotations

from dataclasses import dataclass

from distributor.clients.app_registration import AppRegistration, registration
from distributor.clients.entra import check, granted
from distributor.clients.graph import ROOT, GraphClient, HttpResponse, NoResponse, SentItems, graph, path_segment, service_error
from distributor.errors import Error, InvalidInput
from distributor.microsoft.permissions import READ_MAIL, MailboxDenied, PermissionUse, RequiredPermission, let_in, remedy
from distributor.microsoft.powershell import App
from distributor.model.issues import Diagnostic
from distributor.model.people import key_of

_FORBIDDEN = 403
_WHY = "the app needs at least Mail.ReadBasic for this mailbox"


@dataclass(frozen=True)
class Settings(AppRegistration):
    """`[[trackers]]` of kind graph: the keys of the registration, and these. It needs Mail.ReadBasic.All, Mail.Read or Mail.ReadWrite."""

    mailbox: str = ""
    senders: tuple[str, ...] = ()  # addresses that messages are sent from through it, where they differ from its name
    graph: str = ROOT
    reply_timeout: float = 100.0  # seconds


def open(settings: Settings, key: str) -> MailboxTracker:  # noqa: A001  every adapter is opened by this name
    """The tracker; connects when it is asked. `key` names its table. Raises InvalidInput for settings that cannot work."""
    if wrong := check(settings, key):
        raise wrong
    if not settings.mailbox:
        raise InvalidInput("missing", where=f"{key}.mailbox", hint="name the mailbox whose Sent Items to search")
    return MailboxTracker(settings, graph(registration(settings), settings.graph, key=key))


def needs(_: Settings) -> tuple[RequiredPermission, ...]:
    """The permissions without which it cannot work."""
    return (READ_MAIL,)


class MailboxTracker(SentItems):
    """Looks messages up in one mailbox."""

    def __init__(self, settings: Settings, client: GraphClient) -> None:
        known = {key_of(one) for one in (settings.mailbox, *settings.senders)}

        def mailbox(sender: str | None) -> str | None:
            return settings.mailbox if sender is None or key_of(sender) in known else None

        super().__init__(client, mailbox, timeout=settings.reply_timeout)
        self._settings, self._client = settings, client

    async def check(self) -> list[Diagnostic]:
        """Whether the app can read the mailbox. What Exchange itself grants is in no token, so one message is asked for."""
        who, root = registration(self._settings), self._client.root
        try:
            seen = granted(await self._client.token(), who, root)
            response = await self._client.call(
                "GET", self._path, params={"$top": "1", "$select": "id"}, timeout=self._settings.reply_timeout
            )
        except Error as error:
            app = App(who.tenant, who.client_id, service=root)
            return [Diagnostic("tracker", "error", str(error), remedy(str(error), error.hint, app, (READ_MAIL.permission,)))]
        finally:
            await self._client.close()
        return [_answer(response, self._settings.mailbox, seen.app)]

    @property
    def _path(self) -> str:
        return f"users/{path_segment(self._settings.mailbox)}/messages"


def _answer(response: HttpResponse | NoResponse, mailbox: str, app: App) -> Diagnostic:
    if isinstance(response, HttpResponse) and response.good:
        return Diagnostic("tracker", "ok", f"{mailbox} can be read")
    if isinstance(response, HttpResponse) and response.status == _FORBIDDEN:
        shut = MailboxDenied("tracker", "error", f'{mailbox} does not allow this app to read mail: "{response.detail}"', why=_WHY)
        return let_in(shut, app, [PermissionUse("tracker", (READ_MAIL,), (mailbox,))])
    stop = service_error(response, mailbox)
    return Diagnostic("tracker", "error", str(stop), stop.hint)
