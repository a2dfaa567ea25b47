"""Kind graph: looks ambiguous messages up in a mailbox (a copy in Sent Items, or still a draft), and reads its Inbox."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from distributor.adapters.trackers.graph_inbox import GraphInbox
from distributor.clients.app_registration import AppRegistration, registration
from distributor.clients.entra import check, granted
from distributor.clients.graph import ROOT, GraphClient, HttpResponse, NoResponse, graph, path_segment, service_error
from distributor.clients.sent_items import SentItems
from distributor.errors import Error, InvalidInput
from distributor.microsoft.permissions import MARK_MAIL, READ_CONTENT, MailboxDenied, PermissionUse, RequiredPermission, let_in, remedy
from distributor.microsoft.powershell import App
from distributor.model.issues import Diagnostic
from distributor.model.mailboxes import MailBatch, ReceivedMail
from distributor.model.people import key_of

_FORBIDDEN = 403


@dataclass(frozen=True)
class Settings(AppRegistration):
    """`[[trackers]]` of kind graph: the keys of the registration, and these. It needs Mail.ReadWrite; without marks Mail.Read is enough."""

    mailbox: str = ""
    mark: bool = True  # handled mails get the category "distributor"
    move_to: str | None = None  # the folder for handled mails instead, beside the Inbox
    senders: tuple[str, ...] = ()  # addresses that messages are sent from through it, where they differ from its name
    graph: str = ROOT
    reply_timeout: float = 100.0  # seconds


def open(settings: Settings, key: str) -> MailboxTracker:  # noqa: A001  every adapter is opened by this name
    """The tracker; connects when it is asked. `key` names its table. Raises InvalidInput for settings that cannot work."""
    if wrong := check(settings, key):
        raise wrong
    if not settings.mailbox:
        raise InvalidInput("missing", where=f"{key}.mailbox", hint="name the mailbox to read")
    if settings.move_to is not None and not (settings.move_to and settings.move_to.isprintable()):
        raise InvalidInput("not the name of a folder", where=f"{key}.move_to", hint='write it as Outlook shows it, such as "Done"')
    return MailboxTracker(settings, graph(registration(settings), settings.graph, key=key), key)


def needs(settings: Settings) -> tuple[RequiredPermission, ...]:
    """The permissions without which it cannot work."""
    return (MARK_MAIL,) if settings.mark or settings.move_to is not None else (READ_CONTENT,)


class MailboxTracker(SentItems):
    """Looks messages up in one mailbox, and reads its Inbox."""

    def __init__(self, settings: Settings, client: GraphClient, key: str) -> None:
        known = {key_of(one) for one in (settings.mailbox, *settings.senders)}

        def mailbox(sender: str | None) -> str | None:
            return settings.mailbox if sender is None or key_of(sender) in known else None

        super().__init__(client, mailbox, timeout=settings.reply_timeout)
        self._settings, self._client = settings, client
        self._inbox = GraphInbox(
            client, settings.mailbox, key=key, marks=settings.mark, move_to=settings.move_to, timeout=settings.reply_timeout
        )
        self.name = self._inbox.name

    def read(self, after: str | None, since: datetime) -> AsyncIterator[MailBatch]:
        """The mails after a position, in batches; see model.mailboxes.MailboxReader."""
        return self._inbox.read(after, since)

    async def mark(self, handled: Sequence[ReceivedMail]) -> None:
        """Give mails a category, or move them."""
        await self._inbox.mark(handled)

    async def check(self) -> list[Diagnostic]:
        """Whether the app can read the mailbox. What Exchange itself grants is in no token, so one message is read; none is changed."""
        who, root = registration(self._settings), self._client.root
        try:
            seen = granted(await self._client.token(), who, root)
            response = await self._client.call(
                "GET", self._path, params={"$top": "1", "$select": "id"}, timeout=self._settings.reply_timeout
            )
            match response:
                case HttpResponse(status=200, body={"value": [{"id": str(message)}, *_]}):
                    response = await self._inbox.content(message, 1)
            if self._settings.move_to is not None and isinstance(response, HttpResponse) and response.good:
                await self._inbox.folder(self._settings.move_to)
        except Error as error:
            app = App(who.tenant, who.client_id, service=root)
            permissions = tuple(need.permission for need in needs(self._settings))
            return [Diagnostic("tracker", "error", str(error), remedy(str(error), error.hint, app, permissions))]
        finally:
            await self._client.close()
        return [_answer(response, self._settings, seen.app)]

    @property
    def _path(self) -> str:
        return f"users/{path_segment(self._settings.mailbox)}/messages"


def _answer(response: HttpResponse | NoResponse, settings: Settings, app: App) -> Diagnostic:
    mailbox, required = settings.mailbox, needs(settings)
    if isinstance(response, HttpResponse) and response.good:
        return Diagnostic("tracker", "ok", f"{mailbox} can be read")
    if isinstance(response, HttpResponse) and response.status == _FORBIDDEN:
        why = f"the app needs {required[0].permission} for this mailbox"
        shut = MailboxDenied("tracker", "error", f'{mailbox} does not allow this app to read mail: "{response.detail}"', why=why)
        return let_in(shut, app, [PermissionUse("tracker", required, (mailbox,))])
    stop = service_error(response, mailbox)
    return Diagnostic("tracker", "error", str(stop), stop.hint)
