"""A message in a mailbox -> Graph's `message`; and the lists of them, filtered, ordered and paged as Exchange does it."""

from __future__ import annotations

import email
from collections.abc import Iterable, Mapping
from typing import Any

from tests.doubles.graphd import odata
from tests.doubles.graphd.call import Call
from tests.doubles.graphd.clock import stamp
from tests.doubles.graphd.mailbox import Item, Mailbox
from tests.doubles.graphd.mime import Named, body_of
from tests.doubles.graphd.refusals import Refusal
from tests.doubles.graphd.wire import Answer

PAGE = 10
FILTERS = {
    "internetMessageId": "text",
    "conversationId": "text",
    "subject": "text",
    "importance": "text",
    "from/emailAddress/address": "text",
    "sender/emailAddress/address": "text",
    "isDraft": "boolean",
    "isRead": "boolean",
    "hasAttachments": "boolean",
    "sentDateTime": "time",
    "receivedDateTime": "time",
    "createdDateTime": "time",
    "lastModifiedDateTime": "time",
}


def resource(item: Item, mailbox: Mailbox, call: Call, select: list[str] | None = None) -> dict[str, Any]:
    """All that comes by default, or what was selected; the id always comes."""
    found = _cheap(item, mailbox, immutable=call.immutable)
    if select is None:
        return {**found, "body": _body(item, call)}
    chosen = {name: found[name] for name in ("id", *select) if name in found}
    if "body" in select or "uniqueBody" in select:
        chosen |= {name: _body(item, call) for name in ("body", "uniqueBody") if name in select}
    if "internetMessageHeaders" in select:
        chosen["internetMessageHeaders"] = _headers(item, call)
    return {**chosen, "@odata.etag": found["@odata.etag"]}


def _cheap(item: Item, mailbox: Mailbox, *, immutable: bool) -> dict[str, Any]:
    message, sent = item.message, stamp(item.sent or item.created)
    return {
        "@odata.etag": f'W/"{message.sha256[:24]}"',
        "id": item.immutable if immutable else item.id,
        "createdDateTime": stamp(item.created),
        "lastModifiedDateTime": stamp(item.modified or item.created),
        "receivedDateTime": sent,
        "sentDateTime": sent,
        "changeKey": message.sha256[:24],
        "categories": list(item.categories),
        "hasAttachments": message.has_attachments,
        "internetMessageId": message.message_id,
        "subject": message.subject,
        "bodyPreview": message.preview,
        "importance": item.importance,
        "parentFolderId": mailbox.folder_id(item.folder),
        "conversationId": message.conversation,
        "isDeliveryReceiptRequested": False,
        "isReadReceiptRequested": False,
        "isRead": item.read,
        "isDraft": item.draft,
        "inferenceClassification": "focused",
        "sender": _recipient(message.sender or (mailbox.name, mailbox.address)),
        "from": _recipient(message.sender or (mailbox.name, mailbox.address)),
        "toRecipients": [_recipient(one) for one in message.to],
        "ccRecipients": [_recipient(one) for one in message.cc],
        "bccRecipients": [_recipient(one) for one in message.bcc],
        "replyTo": [_recipient(one) for one in message.reply_to],
        "flag": {"flagStatus": "notFlagged"},
    }


def _recipient(named: Named) -> dict[str, Any]:
    return {"emailAddress": {"name": named[0] or named[1], "address": named[1]}}


def _body(item: Item, call: Call) -> dict[str, str]:
    kind, text = body_of(email.message_from_bytes(call.service.delivered.bytes_of(item.message.sha256)))
    return {"contentType": kind, "content": text}


def _headers(item: Item, call: Call) -> list[dict[str, str]]:
    """None for a sent copy: the service leaves its own headers out there (facts: sending.md 1.1)."""
    if item.folder != "inbox":
        return []
    message = email.message_from_bytes(call.service.delivered.bytes_of(item.message.sha256))
    return [{"name": name, "value": " ".join(str(value).split())} for name, value in message.items()]


def listed(call: Call, mailbox: Mailbox, folder: str | None) -> Answer:
    """GET …/messages of a folder or of the whole mailbox."""
    select = _known_selection(call)
    clauses = checked(call.clauses("ErrorInvalidUrlQueryFilter"))
    wanted = _orders(call, clauses)
    found = _matching(call, mailbox, folder, clauses)
    if wanted[0][1]:
        found.reverse()  # those of one second too come newest first
    found = odata.ordered(found, wanted, lambda item: _cheap(item, mailbox, immutable=False))
    start, size = call.query.get("$skip", 0), call.page_size(PAGE)
    value: dict[str, Any] = call.context(f"users('{mailbox.owner}')/messages")
    value["value"] = [resource(item, mailbox, call, select) for item in found[start : start + size]]
    if len(found) > start + size:
        value["@odata.nextLink"] = call.link(skip=start + size)
    return call.say(value)


def _known_selection(call: Call) -> list[str] | None:
    for name in ("$expand", "$search"):
        if name in call.query:
            call.service.violations.append(f"the double lacks {name} for {call.operation.id}")
            raise Refusal(501, "NotImplemented", f"The double lacks {name}.")
    return call.selection("message")


def checked(clauses: list[odata.Clause]) -> list[odata.Clause]:
    """Only properties and kinds that Exchange filters by."""
    for clause in clauses:
        kind = FILTERS.get(clause.field)
        if kind is None or clause.each:
            raise Refusal(400, "ErrorInvalidProperty", f"The property '{clause.field}' does not support filtering.")
        if clause.kind != kind:
            text = f"A binary operator with incompatible types was detected: '{kind}' and '{clause.kind}' for '{clause.field}'."
            raise Refusal(400, "BadRequest", text)
    return clauses


def _orders(call: Call, clauses: list[odata.Clause]) -> list[tuple[str, bool]]:
    """Newest first unless told otherwise. What orders has to stand first in the filter, if there is one (Microsoft's rule)."""
    if "$orderby" not in call.query:
        return [("receivedDateTime", True)]
    wanted = odata.orders(call.query["$orderby"])
    filtered = list(dict.fromkeys(clause.field for clause in clauses))
    names = [name for name, _ in wanted]
    if unknown := [name for name in names if name not in FILTERS]:
        raise Refusal(400, "ErrorInvalidProperty", f"The property '{unknown[0]}' does not support ordering.")
    if clauses and filtered[: len(names)] != names:
        raise Refusal(400, "InefficientFilter", "The restriction or sort order is too complex for this operation.")
    return wanted


def _matching(call: Call, mailbox: Mailbox, folder: str | None, clauses: Iterable[odata.Clause]) -> list[Item]:
    hidden = call.service.settings.under_way == "hidden"
    clauses = list(clauses)
    by_id = [clause.value for clause in clauses if clause.field == "internetMessageId" and clause.operator == "eq"]
    items = mailbox.with_message_id(str(by_id[0])) if by_id else mailbox.visible(hide_under_way=hidden)
    return [item for item in items if _shows(item, mailbox, folder, hidden=hidden) and _all_hold(clauses, item, mailbox)]


def _shows(item: Item, mailbox: Mailbox, folder: str | None, *, hidden: bool) -> bool:
    return item.folder in mailbox.folders and folder in {None, item.folder} and not (hidden and item.leaves is not None)


def _all_hold(clauses: list[odata.Clause], item: Item, mailbox: Mailbox) -> bool:
    if not clauses:
        return True
    record: Mapping[str, Any] = _cheap(item, mailbox, immutable=False)
    return all(clause.holds(record) for clause in clauses)
