"""Composes the reading of mailboxes: child processes that parse mails, the phrases that ask for another copy, the policy."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distributor.bootstrap import requests
from distributor.config.schema import RequestPolicy
from distributor.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from distributor import config
    from distributor.mail.notices import NoticeRules
    from distributor.model.mailboxes import MailboxReader
    from distributor.model.notices import Notice
    from distributor.model.ports import Ledger
    from distributor.workflows.notices import MailboxReport

PARSE_SECONDS = 5.0  # for one mail; a usual one takes a few milliseconds
LARGEST_PHRASES = 2**16  # bytes of templates/request/<language>/phrases.txt


def read_mailboxes(
    settings: config.Settings, ledger: Ledger, readers: Sequence[MailboxReader], since: datetime | None = None
) -> MailboxReport:
    """Read the mailboxes of `[[trackers]]`, and record what the mails tell and ask for; `since`: again from there."""
    import asyncio

    from distributor.bootstrap.inputs import CHILD_MEMORY
    from distributor.workers.pool import CallFactory, Workers
    from distributor.workflows import mail_reader, mailboxes

    automatic = settings.portal is not None and settings.portal.requests is RequestPolicy.AUTOMATIC
    policy = mailboxes.MailPolicy(settings.requests.by_mail, automatic, requests.limits(settings))
    workers: Workers[bytes, Notice]
    workers = Workers(CallFactory(mail_reader.reader, (notice_rules(settings),)), 1, PARSE_SECONDS, CHILD_MEMORY)
    with workers as pool:
        context = mailboxes.MailboxContext(ledger, pool, policy, asyncio.to_thread, since)
        return asyncio.run(mailboxes.read_mailboxes(context, readers))


def notice_rules(settings: config.Settings) -> NoticeRules:
    """What mails are compared with."""
    from distributor.mail.notices import NoticeRules

    own = [mailbox.address for mailbox in settings.mailboxes]
    own += [settings.requests.address] if settings.requests.address is not None else []
    return NoticeRules(frozenset(address.key for address in own), _phrases(settings), settings.requests.authserv_id)


def _phrases(settings: config.Settings) -> frozenset[str]:
    """The lines of every language's `request/<language>/phrases.txt`; the workspace's file replaces the packaged one."""
    from distributor.files.reader import FileRefused, read_file
    from distributor.mail.notices import phrase_key
    from distributor.mail.templates import packaged

    files = {
        path.parent.name: path for folder in (packaged(), settings.folder / "templates") for path in folder.glob("request/*/phrases.txt")
    }
    found: set[str] = set()
    for path in files.values():
        try:
            text = read_file(path, LARGEST_PHRASES, follow=True).decode("utf-8-sig")
        except FileRefused as refused:
            raise InvalidInput(refused.message, where=str(path), hint="correct or remove the file") from None
        except UnicodeDecodeError:
            raise InvalidInput("not UTF-8", where=str(path), hint="save the file as UTF-8") from None
        found.update(filter(None, map(phrase_key, text.splitlines())))
    return frozenset(found)
