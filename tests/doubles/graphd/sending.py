"""The point of no return: a message is checked, counted, logged on the disk, and goes its ways: Sent Items, Inboxes here, the trace."""

from __future__ import annotations

import uuid

from tests.doubles.graphd.call import Call
from tests.doubles.graphd.mailbox import Item, Mailbox
from tests.doubles.graphd.mime import ParsedMessage, checked_recipients
from tests.doubles.graphd.refusals import Refusal

SEND_AS = (
    "The user account which was used to submit this request does not have the right to send mail on behalf of the specified "
    "sending account., Cannot submit message."
)


def submit(call: Call, mailbox: Mailbox, item: Item, *, fresh: bool = False) -> None:
    """After this the message is out. `fresh` is a message that no folder holds yet; raises Refusal before anything happened."""
    recipients = checked_recipients(item.message.recipients)
    _may_send_as(mailbox, item.message)
    call.service.limits.count_message(mailbox.address, len(recipients))
    _log(call, mailbox, item, recipients)
    if fresh:
        mailbox.add(item)
    settings, now = call.service.settings, call.now
    mailbox.submit(item, now + settings.sent_after)
    mailbox.settle(now, same_id=settings.id_after_send == "same")
    for address in recipients:
        trace(call.service.traces, item.message, mailbox.address, address, now)
        _deliver_inside(call, item.message, address)


def _may_send_as(mailbox: Mailbox, message: ParsedMessage) -> None:
    sender = message.sender[1].lower() if message.sender else mailbox.address
    if sender != mailbox.address and sender not in mailbox.send_as:
        raise Refusal(403, "ErrorSendAsDenied", SEND_AS)


def _log(call: Call, mailbox: Mailbox, item: Item, recipients: tuple[str, ...]) -> None:
    message = item.message
    call.service.delivered.write(
        {
            "message_id": message.message_id,
            "from": message.sender[1] if message.sender else mailbox.address,
            "to": recipients[0],
            "recipients": list(recipients),
            "mailbox": mailbox.address,
            "subject": message.subject,
            "sha256": message.sha256,
            "size": message.size,
            "operation": call.operation.id,
            "id": item.immutable,
            "app": call.app,
            "at": call.now,
        }
    )


def trace(rows: list[dict[str, object]], message: ParsedMessage, sender: str, recipient: str, now: float) -> None:
    """One row a recipient; its status is worked out when somebody looks."""
    rows.append(
        {
            "id": new_trace_id(),
            "messageId": message.message_id,
            "senderAddress": sender,
            "recipientAddress": recipient,
            "subject": message.subject,
            "size": message.size,
            "at": now,
        }
    )


def new_trace_id() -> str:
    return str(uuid.uuid4())


def _deliver_inside(call: Call, message: ParsedMessage, address: str) -> None:
    target = call.service.addresses.get(address.lower()) if call.service.settings.deliver_inside else None
    if target is not None:
        target.add(Item(message, "inbox", created=call.now, sent=call.now, read=False))
