"""Reads bounces that only people were meant to read, by the patterns of flufl.bounce. Pure.

It finds recipients; the Message-ID, the status code and the server's words are looked for here. All of it is a guess.
"""

from __future__ import annotations

import logging
import re
from email.message import Message

from distributor.mail.received import Mail, children, message_ids, text_of, texts
from distributor.mail.reports import enhanced_status, reference, returned_ids
from distributor.model.notices import Action, DeliveryReport, RecipientReport
from distributor.model.people import Address, bounded, parse_address

MOST_LINES = 500  # of all texts together; the patterns are tried on each, one after the other
LONGEST_LINE = 500  # characters; some of the patterns take time by the square of it
_MESSAGE_ID = re.compile(r"^[>\s]{0,20}(message-id:[ \t]{0,20}(?:\n[ \t]{0,20})?<[^<>\s]{1,250}>)", re.IGNORECASE | re.MULTILINE)
_REPLY_CODE = re.compile(r"(?<![\d.])[45][0-5]\d[ -]|#[45]\.\d\.\d")  # as SMTP servers answer, and qmail
_REPLIES = ("x-auto-response-suppress", "x-autoreply", "x-autorespond", "x-autoresponder")  # of programs that answer for a person


def bounce_in_text(mail: Mail) -> DeliveryReport | None:
    """The bounce that a mail system wrote in words; None where the mail is none.

    A mail from a person's address counts only with the null reverse-path or the subject of a bounce, without a sign of an automatic
    reply, and without what it quotes.
    """
    of_exim = "x-failed-recipients" in mail.fields
    if not (mail.from_mail_system or of_exim or ((mail.null_sender or mail.titled_as_bounce) and not _is_reply(mail))):
        return None
    from flufl.bounce import all_failures  # noqa: PLC0415  hundreds of patterns, which the parent process and most mails do not need

    shown = [(part, text_of(part)) for part in texts(mail.message)]
    if not mail.from_mail_system or _is_reply(mail):
        shown = [(part, re.sub(r"^[ \t]*>.*", "", text, flags=re.MULTILINE)) for part, text in shown]
    logging.getLogger("flufl.bounce").disabled = True  # it would write what it fails at to standard error
    try:
        temporary, permanent = all_failures(_readable(mail.message, shown))
    except Exception:  # noqa: BLE001  its patterns are not made for hostile mails
        return None
    text = "\n".join(text.replace("\r\n", "\n") for _, text in shown)
    returned = returned_ids(children(mail.message)) or _returned_in(text)
    ids = {found[1:-1].lower() for found in returned}  # a pattern for <address> fits them too
    failed, delayed = _keys(permanent) - ids, _keys(temporary) - ids
    words = _words_of_server(text)
    recipients = [
        RecipientReport(address, action, enhanced_status(words), words)
        for action, addresses in ((Action.FAILED, failed), (Action.DELAYED, delayed - failed))
        for address in sorted(addresses)
    ]
    if not recipients:
        return None
    return DeliveryReport(reference(mail, returned), tuple(recipients), "", machine_readable=False)


def _is_reply(mail: Mail) -> bool:
    submitted = (value.lower() for value in mail.fields.get("auto-submitted", ()))
    return any(name in mail.fields for name in _REPLIES) or any(value.startswith("auto-replied") for value in submitted)


def _readable(message: Message, shown: list[tuple[Message, str]]) -> Message:
    """The mail as flufl.bounce can read it: its own texts, decoded and cut, without what is attached."""
    copy = Message()
    for name, value in message.items():
        if name.lower() not in {"content-transfer-encoding", "mime-version"}:
            copy[name] = str(value)
    left = MOST_LINES
    for part, text in shown:
        lines = [line[:LONGEST_LINE] for line in text.splitlines()[:left]]
        left -= len(lines)
        if part is message:
            copy.set_payload("\n".join(lines))
            return copy
        leaf = Message()
        leaf["Content-Type"] = "text/plain"
        leaf["Content-Description"] = str(part.get("content-description", ""))
        leaf.set_payload("\n".join(lines))
        copy.attach(leaf)
    if message.is_multipart():
        copy.attach(Message())  # in place of what is attached: some patterns want the text to be followed by a part
    return copy


def _keys(found: frozenset[bytes]) -> set[str]:
    parsed = (parse_address(address.decode("ascii", "replace").strip()) for address in found)
    return {address.key for address in parsed if isinstance(address, Address)}


def _words_of_server(text: str) -> str:
    """The first line that has a reply code."""
    return next((bounded(line[:LONGEST_LINE]) for line in text.splitlines()[:MOST_LINES] if _REPLY_CODE.search(line[:LONGEST_LINE])), "")


def _returned_in(text: str) -> tuple[str, ...]:
    """The Message-ID in the header that a text returns, which stands first."""
    found = _MESSAGE_ID.search(text)
    return message_ids({"message-id": [found[1]]}, "message-id") if found else ()
