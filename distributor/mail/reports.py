"""Reads delivery status notifications (RFC 3464, RFC 6533) and disposition notifications (RFC 8098). Pure.

Only the outermost multipart/report counts: what a person forwards is no report. Nothing is guessed; what a server does not say is empty.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from email.errors import CloseBoundaryNotFoundDefect
from email.message import Message

from distributor.mail.received import Fields, Mail, children, content, content_type, header_fields, message_ids
from distributor.model.notices import Action, DeliveryReport, ReadReceipt, RecipientReport, Reference, Unknown
from distributor.model.people import Address, bounded, parse_address

MOST_RECIPIENTS = 100  # that are read of one report; each of our messages has one
LONGEST_ENVELOPE_ID = 100  # characters, RFC 3461 4.4
_RETURNED = frozenset(
    {"message/rfc822", "message/global", "text/rfc822-headers", "text/rfc822", "message/rfc822-headers", "message/global-headers"}
)
_RECEIPTS = frozenset({"message/disposition-notification", "message/global-disposition-notification"})
_BLANK_LINES = re.compile(rb"(?:\r?\n[ \t]*){2,}(?![ \t])")
_RECIPIENT_FIELDS = ("original-recipient", "final-recipient")
_COMMENT = re.compile(r"\([^()]*\)")
_ESCAPED = re.compile(r"\\x\{([0-9A-F]{2,6})\}")  # RFC 6533, 3
_PLUS_OR_EQUALS = re.compile(r"\+(2B|3D)")  # xtext (RFC 3461, 4) of the characters of addresses that it has to encode
_ENHANCED = re.compile(r"(?<![\d.])[245]\.\d{1,3}\.\d{1,3}(?![\d.]*\d)")  # RFC 3463
_ACTIONS = {
    **{action.value: action for action in Action},
    "fail": Action.FAILED,
    "failure": Action.FAILED,
    "error": Action.FAILED,  # OpenSMTPD
}
_DISPOSITION = re.compile(r"\s*([\w-]+)\s*/\s*([\w-]+)\s*;\s*([\w-]+)")


def report_parts(mail: Mail) -> Sequence[Message]:
    """The parts of the outermost report; empty where the mail is none.

    Some mail systems call a report multipart/mixed, and mailing lists wrap one to add a footer. That counts if a mail system sent it.
    """
    top = mail.message
    if content_type(top) != "multipart/report" and mail.from_mail_system:
        top = next((part for part in children(top)[:1] if content_type(part) == "multipart/report"), top)
    elif content_type(top) != "multipart/report":
        return ()
    return children(top)


def delivery_report(mail: Mail, parts: Sequence[Message]) -> DeliveryReport | Unknown | None:
    """The delivery status notification among the parts of a report: Unknown if nothing in it can be believed, None if there is none."""
    part = next((part for part in parts if _is_delivery_status(part)), None)
    if part is None:
        return None
    text = content(part)
    if part is parts[-1] and any(isinstance(defect, CloseBoundaryNotFoundDefect) for defect in mail.message.defects):
        text = text[: text.rfind(b"\n") + 1]  # the mail was cut: half an address is another address
    of_message, groups = _groups(text)
    if not groups:
        return None
    recipients = list(filter(None, map(_recipient, groups)))
    if not recipients:
        return Unknown("a report that contradicts itself, or does not say what was done")
    named = (*message_ids(of_message, "original-message-id", "x-original-message-id"), *returned_ids(parts))
    envelope_id = _first(of_message, "original-envelope-id")[:LONGEST_ENVELOPE_ID]
    return DeliveryReport(
        reference(mail, named, envelope_id),
        tuple(recipients),
        bounded(_untyped(_first(of_message, "reporting-mta"))),
        machine_readable=True,
    )


def _is_delivery_status(part: Message) -> bool:
    kind = content_type(part)
    return kind.startswith("message/") and kind.endswith("delivery-status")


def read_receipt(mail: Mail, parts: Sequence[Message]) -> ReadReceipt | None:
    """The disposition notification among the parts of a report."""
    for part in parts:
        if content_type(part) in _RECEIPTS:
            fields = header_fields(content(part))
            if disposition := _DISPOSITION.match(_first(fields, "disposition")):
                action_mode, sending_mode, kind = (word.lower() for word in disposition.groups())
                about = reference(mail, (*message_ids(fields, "original-message-id"), *returned_ids(parts)))
                automatic = "automatic" in (sending_mode if sending_mode.startswith("mdn-sent") else action_mode)
                return ReadReceipt(about, _address(fields), kind, automatic)
    return None


def reference(mail: Mail, returned: Sequence[str], envelope_id: str = "") -> Reference:
    """Which message a report is about: what it returns or names, and what its own header answers."""
    return Reference(tuple(dict.fromkeys(returned)), envelope_id, message_ids(mail.fields, "in-reply-to", "references"))


def returned_ids(parts: Sequence[Message]) -> tuple[str, ...]:
    """The Message-IDs of the returned messages or headers among the parts."""
    headers = (content(part).lstrip() for part in parts if content_type(part) in _RETURNED)
    return tuple(found for header in headers for found in message_ids(header_fields(header), "message-id"))


def _groups(text: bytes) -> tuple[Fields, Sequence[Fields]]:
    """The fields about the message, and those about each recipient."""
    of_message: dict[str, list[str]] = {}
    groups: list[dict[str, list[str]]] = []
    for block in _BLANK_LINES.split(text.strip(), MOST_RECIPIENTS + 1)[: MOST_RECIPIENTS + 1]:
        fields = header_fields(block)
        if any(name in fields for name in _RECIPIENT_FIELDS):
            groups.append(fields)
        elif groups:  # an empty line in the middle of a recipient's fields
            groups[-1] = fields | groups[-1]
        for name, values in fields.items():
            of_message.setdefault(name, values)
    return of_message, groups


def _recipient(fields: Fields) -> RecipientReport | None:
    """The report for one recipient; None where action and status code exclude each other, or there is no action."""
    word = re.match(r"[\s\"']*([a-z]*)", _first(fields, "action").lower())
    action = _ACTIONS.get(word[1]) if word else None
    if action is None:
        return None
    diagnostic = _untyped(_first(fields, "diagnostic-code"))
    said = _first(fields, "status")
    codes = [code for code in (enhanced_status(said), enhanced_status(diagnostic)) if _fits(code, action)]
    if enhanced_status(said) and not codes:
        return None
    status = min(codes, key=_says_little, default="")
    comment = "; ".join(found[1:-1] for found in _COMMENT.findall(said))
    return RecipientReport(_address(fields), action, status, bounded(diagnostic or comment))


def _fits(status: str, action: Action) -> bool:
    """Whether a status code can belong to an action: 4 and 5 to failures and delays, 2 to the others."""
    return status[:1] in ({"4", "5"} if action in {Action.FAILED, Action.DELAYED} else {"2"})


def _says_little(status: str) -> bool:
    """Whether a status code is none, or `5.0.0`, which servers write where the words of the next one have a better code."""
    return status[1:] in {"", ".0.0"}


def enhanced_status(text: str) -> str:
    """The first enhanced status code (RFC 3463) in a text; empty where there is none."""
    found = _ENHANCED.search(text)
    return found[0] if found else ""


def _address(fields: Fields) -> str:
    """The address that the message was sent to, else the one that it came to."""
    final = _first(fields, "final-recipient")
    original = _first(fields, "original-recipient")
    exact = _parsed(original)
    if exact and exact != _parsed(final):
        exact = _parsed(_PLUS_OR_EQUALS.sub(lambda code: chr(int(code[1], 16)), original))
    return exact or _parsed(final)


def _parsed(value: str) -> str:
    """Address.key of `type; address`; empty where it is not a mail address."""
    kind, typed, text = value.partition(";")
    if typed and kind.strip().lower() not in {"rfc822", "utf-8"}:
        return ""
    text = _COMMENT.sub("", text if typed else value).strip().removeprefix("<").removesuffix(">")
    found = parse_address(_ESCAPED.sub(lambda code: chr(min(int(code[1], 16), 0x10FFFF)), text))
    return found.key if isinstance(found, Address) else ""


def _untyped(value: str) -> str:
    """The text after `type;`, such as `dns; mx.example.org` or `smtp; 550 no such user`."""
    kind, typed, text = value.partition(";")
    return (text if typed and re.fullmatch(r"\s*[\w-]{1,20}\s*", kind) else value).strip()


def _first(fields: Fields, name: str) -> str:
    values = fields.get(name, ())
    return values[0] if values else ""
