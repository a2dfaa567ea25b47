"""What Graph does with mail: drafts, sending, reading, deleting. Each function is one operation: a Call in, an Answer out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.doubles.graphd import messages
from tests.doubles.graphd.call import Call, not_found
from tests.doubles.graphd.mailbox import GONE, PURGED, Item, Mailbox
from tests.doubles.graphd.mime import (
    ParsedMessage,
    from_json,
    has_message_id,
    invented_id,
    parse_message,
    read_mime,
    with_message_id,
)
from tests.doubles.graphd.refusals import Refusal
from tests.doubles.graphd.sending import submit
from tests.doubles.graphd.wire import Answer


def create(call: Call) -> Answer:
    """POST …/messages: a draft."""
    mailbox = call.mailbox()
    item = mailbox.add(_draft(call, _mime(call, call.body, mailbox)))
    if isinstance(call.body, dict):
        _change(item, call.body)
    entity = call.context(f"users('{mailbox.owner}')/messages/$entity")
    return _applied(call, call.say({**entity, **messages.resource(item, mailbox, call)}, 201))


def send(call: Call) -> Answer:
    """POST …/messages/{id}/send. A message that was sent already is not found."""
    if "content-length" not in call.request.headers and "transfer-encoding" not in call.request.headers:
        raise Refusal(411, "LengthRequired", "A Content-Length header is required.")
    mailbox = call.mailbox()
    item = call.item(mailbox)
    if not item.draft or item.submitted:
        raise not_found()
    if call.rewrites:
        mailbox.replace_message(item, _kept(call, with_message_id(_bytes(call, item.message), invented_id())))
    submit(call, mailbox, item)
    return Answer(202)


def send_mail(call: Call) -> Answer:
    """POST …/sendMail: nothing stays in Drafts, and a refused message leaves nothing at all."""
    mailbox, message, keep = call.mailbox(), call.body, True
    if isinstance(message, dict):
        keep = message.get("saveToSentItems", message.get("SaveToSentItems")) is not False
        message = message.get("message") or message.get("Message")
    item = _draft(call, _mime(call, message, mailbox))
    item.keep = keep
    submit(call, mailbox, item, fresh=True)
    return Answer(202)


def get(call: Call) -> Answer:
    mailbox = call.mailbox()
    select = call.selection("message")
    entity = call.context(f"users('{mailbox.owner}')/messages/$entity")
    return _applied(call, call.say({**entity, **messages.resource(call.item(mailbox), mailbox, call, select)}))


def get_content(call: Call) -> Answer:
    item = call.item(call.mailbox())
    return Answer(200, _bytes(call, item.message), {"Content-Type": "text/plain"})


def update(call: Call) -> Answer:
    mailbox = call.mailbox()
    item = call.item(mailbox)
    _change(item, call.body)
    mailbox.update(item, call.now)
    return _applied(call, call.say(messages.resource(item, mailbox, call)))


def delete(call: Call) -> Answer:
    mailbox = call.mailbox()
    item = call.item(mailbox)
    mailbox.move(item, GONE if item.folder == "deleteditems" else "deleteditems")
    return Answer(204)


def move(call: Call) -> Answer:
    """POST …/messages/{id}/move: 201 with the message, under its new id unless that is immutable."""
    mailbox = call.mailbox()
    item, target = call.item(mailbox), mailbox.folder_name(call.body["destinationId"])
    if target is None:
        raise not_found()
    mailbox.move(item, target)
    return _applied(call, call.say(messages.resource(item, mailbox, call), 201))


def permanent_delete(call: Call) -> Answer:
    mailbox = call.mailbox()
    mailbox.move(call.item(mailbox), PURGED)
    return Answer(204)


def list_all(call: Call) -> Answer:
    return _applied(call, messages.listed(call, call.mailbox(), None))


def list_folder(call: Call) -> Answer:
    mailbox = call.mailbox()
    return _applied(call, messages.listed(call, mailbox, folder(call, mailbox)))


def get_folder(call: Call) -> Answer:
    mailbox = call.mailbox()
    value = _folder(mailbox, folder(call, mailbox))
    select = call.selection("mailFolder")
    return call.say({name: value[name] for name in select or value})


def list_folders(call: Call) -> Answer:
    """GET …/mailFolders: the folders of the root, by displayName where the filter names one."""
    mailbox, select = call.mailbox(), call.selection("mailFolder")
    clauses = call.clauses("ErrorInvalidUrlQueryFilter")
    if any((clause.field, clause.operator, clause.kind) != ("displayName", "eq", "text") for clause in clauses):
        raise Refusal(400, "ErrorInvalidUrlQueryFilter", "The double filters folders by displayName eq only.")
    found = [one for one in (_folder(mailbox, name) for name in mailbox.folders) if all(clause.holds(one) for clause in clauses)]
    shown = [{name: one[name] for name in ("id", *(select or one))} for one in found]
    return call.say({**call.context(f"users('{mailbox.owner}')/mailFolders"), "value": shown})


def _folder(mailbox: Mailbox, name: str) -> dict[str, Any]:
    items = mailbox.folder(name)
    return {
        "id": mailbox.folder_id(name),
        "displayName": mailbox.folders[name],
        "parentFolderId": mailbox.folder_id("msgfolderroot"),
        "childFolderCount": 0,
        "totalItemCount": len(items),
        "unreadItemCount": sum(not item.read for item in items),
        "isHidden": False,
    }


def folder(call: Call, mailbox: Mailbox) -> str:
    name = mailbox.folder_name(call.params["mailFolder-id"])
    if name is None:
        raise not_found()
    return name


# --- parts --------------------------------------------------------------------------------------------------------------


def _mime(call: Call, body: Any, mailbox: Mailbox) -> bytes:  # noqa: ANN401  JSON or bytes
    """The message that came, with a Message-ID: its own, unless it has none or the service has its way."""
    mime = read_mime(body) if isinstance(body, bytes) else from_json(body, mailbox.address)
    if call.rewrites or not has_message_id(mime):
        return with_message_id(mime, invented_id())
    return mime


def _draft(call: Call, mime: bytes) -> Item:
    return Item(_kept(call, mime), "drafts", created=call.now, draft=True)


def _kept(call: Call, mime: bytes) -> ParsedMessage:
    made = parse_message(mime)
    call.service.delivered.keep(made.sha256, mime)
    return made


def _bytes(call: Call, made: ParsedMessage) -> bytes:
    return call.service.delivered.bytes_of(made.sha256)


def _change(item: Item, given: dict[str, Any]) -> None:
    item.read = given.get("isRead", item.read) is not False
    item.importance = given.get("importance") or item.importance
    item.categories = list(given.get("categories") or item.categories)
    item.extended = list(given.get("singleValueExtendedProperties") or item.extended)


def _applied(call: Call, answer: Answer) -> Answer:
    return answer.with_headers({"Preference-Applied": 'IdType="ImmutableId"'}) if call.immutable else answer


OPERATIONS: dict[str, Callable[[Call], Answer]] = {
    "user.createMessage": create,
    "message.send": send,
    "user.sendMail": send_mail,
    "message.get": get,
    "message.getContent": get_content,
    "message.update": update,
    "message.delete": delete,
    "message.move": move,
    "message.permanentDelete": permanent_delete,
    "user.listMessages": list_all,
    "mailFolder.listMessages": list_folder,
    "mailFolder.get": get_folder,
    "user.listMailFolders": list_folders,
}
