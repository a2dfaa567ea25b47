"""Reads a folder of a mailbox by IMAP, each mail once: the ledger keeps UIDVALIDITY and the UID of the last one."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from distributor.clients.app_registration import AppRegistration
from distributor.clients.entra import check, entra
from distributor.clients.imap import IMAPS, ImapFolder, ImapServer
from distributor.clients.ldap_connection import is_loopback
from distributor.errors import Error, InvalidInput, ServiceUnavailable
from distributor.model.issues import Diagnostic
from distributor.model.mailboxes import LARGEST_MAIL, MailBatch, ReceivedMail
from distributor.model.secret import Secret

LAST_PORT = 65_535
BATCH = 10  # mails in memory at a time, each up to LARGEST_MAIL
KEYWORD = "$Distributor"  # of handled mails that are not moved
_POSITION = re.compile(r"([1-9]\d{0,9}):(\d{1,10})")  # UIDVALIDITY and UID, 32 bits each
_TLS = ("implicit", "starttls", "none")


@dataclass(frozen=True)
class Settings:
    """`[[trackers]]` of kind imap."""

    host: str
    username: str
    port: int = IMAPS
    tls: str = "implicit"  # implicit | starttls | none
    password: Secret | None = None
    oauth: AppRegistration | None = None
    resource: str = "https://outlook.office365.com"  # what a token is for
    folder: str = "INBOX"
    move_to: str | None = None  # the folder for handled mails; without it they stay, with a keyword
    timeout: float = 60.0  # seconds, for connecting and for each answer


def open(settings: Settings, key: str) -> ImapReader:  # noqa: A001  every adapter is opened by this name
    """The reader; connects when it is asked. `key` names its table. Raises InvalidInput for settings that cannot work."""
    if fault := _connection_fault(settings, key) or _sign_in_fault(settings, key) or _folder_fault(settings, key):
        raise fault
    return ImapReader(settings, key)


def _connection_fault(settings: Settings, key: str) -> InvalidInput | None:
    if not 1 <= settings.port <= LAST_PORT:
        return InvalidInput(f"{settings.port} is not a port number", where=f"{key}.port", hint="use 993 (implicit TLS) or 143 (STARTTLS)")
    if settings.tls not in _TLS:
        return InvalidInput(f'"{settings.tls}" is not an encryption mode', where=f"{key}.tls", hint="write implicit, starttls or none")
    if settings.tls == "starttls" and settings.port == IMAPS:
        return InvalidInput(f"port {IMAPS} has no STARTTLS", where=f"{key}.tls", hint="remove `tls`, or write `port = 143`")
    if settings.tls == "none" and not is_loopback(settings.host):
        hint = "remove `tls`; only a server on this machine may be used without TLS"
        return InvalidInput(f'the mailbox at "{settings.host}" would be read unencrypted', where=f"{key}.tls", hint=hint)
    if settings.timeout <= 0:
        return InvalidInput("not positive", where=f"{key}.timeout", hint="write seconds, or remove the key")
    return None


def _sign_in_fault(settings: Settings, key: str) -> Error | None:
    if not settings.username:
        return InvalidInput("empty", where=f"{key}.username", hint="write the mailbox's address or account name")
    if (settings.password is None) == (settings.oauth is None):
        message = "missing" if settings.password is None else "`password` and `oauth` cannot be combined"
        return InvalidInput(message, where=f"{key}.password", hint="set one of `password` and `oauth`")
    if settings.oauth is None:
        return None
    if settings.tls == "none":
        hint = "remove `tls`; a token is never sent unencrypted, not even on this machine"
        return InvalidInput("the token would be sent unencrypted", where=f"{key}.tls", hint=hint)
    return check(settings.oauth, f"{key}.oauth")


def _folder_fault(settings: Settings, key: str) -> InvalidInput | None:
    for name, folder in (("folder", settings.folder), ("move_to", settings.move_to)):
        if folder is not None and not (folder and folder.isprintable()):
            return InvalidInput("not the name of a folder", where=f"{key}.{name}", hint='write it as the server names it, such as "INBOX"')
    if settings.move_to == settings.folder:
        return InvalidInput("the folder that is read", where=f"{key}.move_to", hint="name another folder, or remove the key")
    return None


class ImapReader:
    """Reads the mails of one folder."""

    def __init__(self, settings: Settings, key: str) -> None:
        self.name = f"imap://{settings.username}@{settings.host}:{settings.port}/{settings.folder}"
        self._settings, self._key = settings, key
        self._folder: ImapFolder | None = None

    async def read(self, after: str | None, since: datetime) -> AsyncIterator[MailBatch]:
        """The mails after a position, in batches; see model.mailboxes.MailboxReader."""
        folder = await self._opened()
        known = _POSITION.fullmatch(after or "")
        if known is not None and int(known[1]) == folder.validity:
            uids = await asyncio.to_thread(folder.uids, after=int(known[2]))
        else:
            uids = await asyncio.to_thread(folder.uids, since=since.date())
        for start in range(0, len(uids), BATCH):
            wanted = uids[start : start + BATCH]
            yield MailBatch(await self._fetched(wanted, folder.validity), f"{folder.validity}:{wanted[-1]}")

    async def _fetched(self, uids: Sequence[int], validity: int) -> tuple[ReceivedMail, ...]:
        """These mails. One that the server cannot read does not stop the others: then each is fetched by itself, so far as any can be."""
        folder = await self._opened()
        if folder.validity != validity:
            raise ServiceUnavailable("the folder was made again meanwhile", where=self.name, hint="run the command again")
        try:
            mails = await asyncio.to_thread(folder.fetch, uids, LARGEST_MAIL)
        except ServiceUnavailable:
            await self.close()  # Dovecot hangs up at such a mail
            if len(uids) == 1:
                raise
            return await self._fetched_singly(uids, validity)
        return tuple(ReceivedMail(f"{validity}:{mail.uid}", mail.raw, mail.received_at) for mail in mails)

    async def _fetched_singly(self, uids: Sequence[int], validity: int) -> tuple[ReceivedMail, ...]:
        found: list[ReceivedMail] = []
        errors: list[ServiceUnavailable] = []
        for uid in uids:
            await self._opened()  # a server that cannot be reached is no fault of a mail
            try:
                found += await self._fetched([uid], validity)
            except ServiceUnavailable as error:
                errors.append(error)
                found.append(ReceivedMail(f"{validity}:{uid}", b"", None, f"UID {uid}: {error.message}"))
        if len(errors) == len(uids):
            raise errors[0]
        await self._opened()  # nor one that went away at the last mail
        return tuple(found)

    async def mark(self, handled: Sequence[ReceivedMail]) -> None:
        """Move mails to `move_to`, or set a keyword on them."""
        folder = await self._opened()
        uids = [int(mail.id.partition(":")[2]) for mail in handled if mail.id.startswith(f"{folder.validity}:")]
        if not uids:
            return
        if self._settings.move_to is not None:
            await asyncio.to_thread(folder.move, uids, self._settings.move_to)
        else:
            await asyncio.to_thread(folder.set_keyword, uids, KEYWORD)

    async def check(self) -> list[Diagnostic]:
        """Connect, sign in, and look for the folders."""
        try:
            folder, target = await self._opened(), self._settings.move_to
            if target is None:
                return [Diagnostic("tracker", "ok", f"{self._settings.username} can be read")]
            if not await asyncio.to_thread(folder.can_move):
                hint = f"remove `{self._key}.move_to`"
                return [Diagnostic("tracker", "error", f"{self._settings.host} cannot move mails (RFC 6851)", hint)]
            if not await asyncio.to_thread(folder.has_folder, target):
                hint = f"create it, or correct `{self._key}.move_to`"
                return [Diagnostic("tracker", "error", f'{self._settings.username} has no folder "{target}"', hint)]
        except Error as error:
            return [Diagnostic("tracker", "error", str(error), error.hint)]
        finally:
            await self.close()
        return [Diagnostic("tracker", "ok", f'{self._settings.username} can be read; handled mails go to "{target}"')]

    async def close(self) -> None:
        """Log out."""
        folder, self._folder = self._folder, None
        if folder is not None:
            await asyncio.to_thread(folder.close)

    async def _opened(self) -> ImapFolder:
        if self._folder is None:
            settings = self._settings
            server = ImapServer(settings.host, settings.port, settings.tls, settings.timeout, self._key)
            secret, by_token = settings.password, settings.oauth is not None
            if settings.oauth is not None:
                secret = (await entra(settings.oauth, f"{self._key}.oauth").token(settings.resource)).secret
            assert secret is not None  # noqa: S101  `open` checked it
            self._folder = await asyncio.to_thread(ImapFolder, server, settings.folder, settings.username, secret, by_token=by_token)
        return self._folder
