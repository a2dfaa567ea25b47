"""An RFC 5322 message -> what Exchange would show of it; and Graph's JSON message -> the RFC 5322 message Exchange would make."""

from __future__ import annotations

import base64
import binascii
import email
import email.utils
import hashlib
import html
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.header import decode_header, make_header
from email.message import EmailMessage, Message
from typing import Any

from tests.doubles.graphd.refusals import Refusal

Named = tuple[str, str]  # a name and an address
ADDRESS = re.compile(r"[^@\s<>()\[\],;:\"]+@[^@\s<>()\[\],;:\"]+\.[^@\s<>()\[\],;:\".]+")
PREVIEW = 255  # characters of bodyPreview
HEADERS_AT_MOST = 5
MESSAGE_ID = re.compile(rb"(?im)^message-id:[ \t]*(?:\r?\n[ \t]+)?([^\r\n]*)\r?\n")


@dataclass(frozen=True)
class ParsedMessage:
    """The facts of one message; its bytes lie in a file of its own."""

    sha256: str
    size: int
    message_id: str
    subject: str
    sender: Named | None
    to: tuple[Named, ...]
    cc: tuple[Named, ...]
    bcc: tuple[Named, ...]
    reply_to: tuple[Named, ...]
    conversation: str
    preview: str
    has_attachments: bool

    @property
    def recipients(self) -> tuple[str, ...]:
        return tuple(address for _, address in (*self.to, *self.cc, *self.bcc))


def read_mime(body: bytes) -> bytes:
    """The message in a MIME request. Line breaks within the base64 are allowed, anything else is not."""
    try:
        mime = base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as wrong:
        raise Refusal(400, "ErrorMimeContentInvalidBase64String", "Invalid base64 string for MIME content.") from wrong
    if not mime or not re.match(rb"[!-9;-~]+:", mime):
        raise Refusal(400, "ErrorMimeContentInvalid", "The MIME content is invalid: it does not begin with a header field.")
    return mime


def invented_id() -> str:
    """A Message-ID of the service's own choice."""
    return f"<{secrets.token_hex(16).upper()}@DB9PR0802MB1234.eurprd08.prod.outlook.com>"


def with_message_id(mime: bytes, message_id: str) -> bytes:
    line = b"Message-ID: " + message_id.encode() + b"\r\n"
    head, gap, body = mime.partition(b"\r\n\r\n")
    head, found = MESSAGE_ID.subn(line, head + b"\r\n", count=1)
    return (head if found else line + head).removesuffix(b"\r\n") + gap + body


def has_message_id(mime: bytes) -> bool:
    return bool(MESSAGE_ID.search(mime.partition(b"\r\n\r\n")[0] + b"\r\n"))


def parse_message(mime: bytes) -> ParsedMessage:
    message = email.message_from_bytes(mime)
    message_id = " ".join(str(message.get("Message-ID", "")).split())
    subject = _decoded(message.get("Subject", ""))
    senders = _addresses(message, "From")
    thread = (str(message.get("References", "")).split() or [message_id])[0]
    return ParsedMessage(
        sha256=hashlib.sha256(mime).hexdigest(),
        size=len(mime),
        message_id=message_id,
        subject=subject,
        sender=senders[0] if senders else None,
        to=_addresses(message, "To"),
        cc=_addresses(message, "Cc"),
        bcc=_addresses(message, "Bcc"),
        reply_to=_addresses(message, "Reply-To"),
        conversation="AAQkAD" + base64.urlsafe_b64encode(hashlib.sha256(thread.encode()).digest()[:18]).decode() + "=",
        preview=" ".join(body_of(message)[1].split())[:PREVIEW],
        has_attachments=any(part.get_content_disposition() == "attachment" for part in message.walk()),
    )


def _decoded(value: object) -> str:
    try:
        return str(make_header(decode_header(" ".join(str(value).splitlines()))))
    except (UnicodeDecodeError, LookupError):
        return str(value)


def _addresses(message: Message, name: str) -> tuple[Named, ...]:
    pairs = email.utils.getaddresses([str(value) for value in message.get_all(name, [])])
    return tuple((_decoded(shown), address) for shown, address in pairs if address)


def body_of(message: Message) -> tuple[str, str]:
    """("html" or "text", the text); HTML wins, as in the mailbox."""
    texts = {}
    for part in message.walk():
        kind = part.get_content_type()
        if kind in {"text/plain", "text/html"} and part.get_content_disposition() != "attachment":
            payload = part.get_payload(decode=True)
            charset = part.get_content_charset() or "utf-8"
            texts.setdefault(kind, payload.decode(charset, "replace") if isinstance(payload, bytes) else "")
    if "text/html" in texts:
        return "html", texts["text/html"]
    return "text", texts.get("text/plain", "")


def checked_recipients(recipients: Iterable[str]) -> tuple[str, ...]:
    """Refuses a message that goes to nobody, or to what is no address."""
    found = tuple(recipients)
    wrong = [address for address in found if not ADDRESS.fullmatch(address)]
    if not found or wrong:
        shown = "".join(f", Recipient '{address}' is not resolved" for address in wrong)
        raise Refusal(400, "ErrorInvalidRecipients", f"At least one recipient is not valid.{shown}.")
    return found


# --- from JSON ----------------------------------------------------------------------------------------------------------


def from_json(message: Mapping[str, Any], mailbox: str) -> bytes:
    """Exchange writes its own MIME; order, headers and Message-ID are its own, but for an `internetMessageId` that was given."""
    made = EmailMessage()
    sender = _named(message.get("from") or message.get("sender") or {"emailAddress": {"address": mailbox}})
    made["From"] = sender
    for name, key in (("To", "toRecipients"), ("Cc", "ccRecipients"), ("Bcc", "bccRecipients"), ("Reply-To", "replyTo")):
        if people := [_named(one) for one in message.get(key) or ()]:
            made[name] = ", ".join(people)
    made["Subject"] = message.get("subject") or ""
    made["Message-ID"] = message.get("internetMessageId") or invented_id()
    for header in _internet_headers(message.get("internetMessageHeaders") or ()):
        made[header["name"]] = header.get("value") or ""
    _fill(made, message.get("body") or {})
    for attachment in message.get("attachments") or ():
        _attach(made, attachment)
    return made.as_bytes(policy=made.policy.clone(linesep="\r\n", max_line_length=None))


def _named(recipient: Mapping[str, Any]) -> str:
    address = recipient.get("emailAddress") or {}
    return email.utils.formataddr((address.get("name") or "", address.get("address") or ""))


def _internet_headers(headers: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    found = list(headers)
    for header in found:
        name = header.get("name") or ""
        if not name.lower().startswith("x-"):
            text = f"The internet message header name '{name}' should start with 'x-' or 'X-'."
            raise Refusal(400, "InvalidInternetMessageHeader", text)
    if len(found) > HEADERS_AT_MOST:
        text = f"Maximum number of headers in one message should be less than or equal to {HEADERS_AT_MOST}."
        raise Refusal(400, "InvalidInternetMessageHeaderCollection", text)
    return found


def _fill(made: EmailMessage, body: Mapping[str, Any]) -> None:
    text = body.get("content") or ""
    if (body.get("contentType") or "text").lower() == "html":
        made.set_content(html.unescape(re.sub(r"<[^>]*>", "", text)) or " ")
        made.add_alternative(text, subtype="html")
    else:
        made.set_content(text)


def _attach(made: EmailMessage, attachment: Mapping[str, Any]) -> None:
    main, _, sub = (attachment.get("contentType") or "application/octet-stream").partition("/")
    data = base64.b64decode(attachment.get("contentBytes") or "")
    made.add_attachment(data, maintype=main, subtype=sub or "octet-stream", filename=attachment.get("name") or "attachment")
