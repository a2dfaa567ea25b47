"""Turns a received mail into a notice; Unknown is left alone. Pure.

Mails are hostile. Bytes, headers and parts are limited here; time and memory by the worker process that this runs in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from distributor.mail.bounce_texts import bounce_in_text
from distributor.mail.copy_requests import copy_request, phrase_key
from distributor.mail.received import BeyondLimits, Fields, Mail, content_type, read_mail
from distributor.mail.reports import delivery_report, read_receipt, report_parts
from distributor.model.mailboxes import LARGEST_MAIL
from distributor.model.notices import AutomaticReply, DeliveryReport, Notice, ReadReceipt, Unknown

__all__ = ["NoticeRules", "parse", "phrase_key"]

_BULK = frozenset({"bulk", "list", "junk", "auto_reply"})
# Fields that only automatic mails have; RFC 3834 asks not to answer them, and no single one is in all of them (facts: reliability.md 6).
_AUTOMATIC_FIELDS = ("list-id", "x-auto-response-suppress", "x-loop", "x-autoreply", "x-autorespond", "x-autoresponder")


@dataclass(frozen=True, slots=True)
class NoticeRules:
    """What a mail is compared with."""

    own: frozenset[str]  # Address.key of the mailboxes that send messages or take requests
    phrases: frozenset[str]  # what asks for another copy, as `phrase_key` makes them
    authserv_id: str = ""  # of the receiving host, whose Authentication-Results count


ReadSigned = Callable[[Mail], Notice | None]  # verifies the S/MIME signature of a mail; None where it has none


def parse(mail: bytes, rules: NoticeRules, read_signed: ReadSigned | None = None) -> Notice:
    """The notice in a mail; never raises. `read_signed` is asked about mails that are nothing else."""
    try:
        return _notice(read_mail(mail[:LARGEST_MAIL]), rules, read_signed)
    except BeyondLimits as beyond:
        return Unknown(str(beyond))
    except Exception as error:  # noqa: BLE001  CPython's parser fails in many ways on malformed mails
        return Unknown(f"malformed ({type(error).__name__})")


def _notice(mail: Mail, rules: NoticeRules, read_signed: ReadSigned | None) -> Notice:
    """Reports first, as they have the signs of automatic mails; people last, where a request for a copy may be signed too."""
    if report := _report(mail):
        return report
    if sign := _automatic(mail.fields):
        return AutomaticReply(sign)
    request = copy_request(mail, rules.own, rules.phrases, rules.authserv_id)
    if isinstance(request, Unknown) and read_signed is not None:
        return read_signed(mail) or request
    return request


def _report(mail: Mail) -> DeliveryReport | ReadReceipt | Unknown | None:
    parts = report_parts(mail)
    if report := delivery_report(mail, parts):
        return report
    receipt = read_receipt(mail, parts)
    if receipt and receipt.disposition != "deleted":
        return receipt
    if bounce := bounce_in_text(mail):  # Dovecot says "deleted" for a full mailbox
        return bounce
    if receipt is None and content_type(mail.message) == "multipart/report":
        return Unknown("a report of another kind")
    return receipt


def _automatic(fields: Fields) -> str:
    """The field that shows that a program wrote the mail (RFC 3834), if any."""
    if any(value.replace(" ", "") == "<>" for value in fields.get("return-path", ())):
        return "Return-Path"
    if any(value.partition(";")[0].partition("(")[0].strip().lower() != "no" for value in fields.get("auto-submitted", ())):
        return "Auto-Submitted"
    if any(value.strip().lower() in _BULK for value in fields.get("precedence", ())):
        return "Precedence"
    return next((name for name in _AUTOMATIC_FIELDS if name in fields), "")
