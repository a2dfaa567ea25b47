"""One mailbox: its folders, its messages under their ids, and what changed in a folder since when."""

from __future__ import annotations

import base64
import hashlib
import itertools
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.doubles.graphd.mime import ParsedMessage

FOLDERS = {"inbox": "Inbox", "drafts": "Drafts", "sentitems": "Sent Items", "deleteditems": "Deleted Items"}
GONE = "recoverableitemsdeletions"
PURGED = "recoverableitemspurges"
NOWHERE = "nowhere"  # a message that was sent and not kept


def new_id(kind: str) -> str:
    """An id in the service's manner: long, base64url with its padding, and only exact when its case is."""
    return f"{kind}{secrets.token_urlsafe(36)}="


@dataclass
class Item:
    """A message in a folder. `leaves` is when a submitted draft becomes the sent copy, in seconds of the double's clock."""

    message: ParsedMessage
    folder: str
    created: float
    sent: float | None = None
    draft: bool = False
    submitted: bool = False
    keep: bool = True
    leaves: float | None = None
    read: bool = True
    importance: str = "normal"
    categories: list[str] = field(default_factory=list)
    extended: list[dict[str, str]] = field(default_factory=list)
    modified: float = 0.0
    id: str = field(default_factory=lambda: new_id("AAMkAD"))
    immutable: str = field(default_factory=lambda: new_id("AAkALg"))


@dataclass(frozen=True)
class Change:
    number: int
    kind: str  # created | updated | deleted
    item: Item
    id: str
    immutable: str


@dataclass
class Mailbox:
    """`address` in lower case; `send_as` are further addresses that its messages may come from."""

    address: str
    owner: str  # the user's id
    name: str = ""
    send_as: tuple[str, ...] = ()
    folders: dict[str, str] = field(default_factory=lambda: dict(FOLDERS))  # display names; of one that a person made, the name is both
    items: list[Item] = field(default_factory=list)
    changes: dict[str, list[Change]] = field(default_factory=dict)
    _ids: dict[str, Item] = field(default_factory=dict)
    _by_message_id: dict[str, list[Item]] = field(default_factory=dict)
    _under_way: list[Item] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def folder_id(self, name: str) -> str:
        digest = hashlib.sha256(f"{self.address}/{name}".encode()).digest()
        return "AAMkADfolder" + base64.urlsafe_b64encode(digest[:27]).decode() + "="

    def folder_name(self, given: str) -> str | None:
        """The well-known name behind a name or an id."""
        for name in self.folders:
            if given.lower() == name or given == self.folder_id(name):
                return name
        return None

    def folder(self, name: str) -> list[Item]:
        return [item for item in self.items if item.folder == name]

    def visible(self, *, hide_under_way: bool) -> list[Item]:
        return [item for item in self.items if item.folder in self.folders and not (hide_under_way and item.leaves is not None)]

    def with_message_id(self, message_id: str) -> list[Item]:
        return self._by_message_id.get(message_id.casefold(), [])

    def find(self, given: str) -> Item | None:
        """By either form of id; ids are exact in their case."""
        item = self._ids.get(given)
        return item if item is not None and item.folder in self.folders else None

    def add(self, item: Item) -> Item:
        self.items.append(item)
        self._ids[item.id] = self._ids[item.immutable] = item
        self._by_message_id.setdefault(item.message.message_id.casefold(), []).append(item)
        self._note(item.folder, "created", item)
        return item

    def replace_message(self, item: Item, message: ParsedMessage) -> None:
        """Its Message-ID became another one on the way."""
        self._by_message_id[item.message.message_id.casefold()].remove(item)
        item.message = message
        self._by_message_id.setdefault(message.message_id.casefold(), []).append(item)

    def update(self, item: Item, now: float) -> None:
        item.modified = now
        self._note(item.folder, "updated", item)

    def move(self, item: Item, folder: str, *, new_immutable: bool = False, same_id: bool = False) -> None:
        """The usual id changes with the folder; the immutable one only when told to."""
        self._note(item.folder, "deleted", item)
        if not same_id:
            del self._ids[item.id]
            item.id = new_id("AAMkAD")
            self._ids[item.id] = item
        if new_immutable:
            del self._ids[item.immutable]
            item.immutable = new_id("AAkALg")
            self._ids[item.immutable] = item
        item.folder = folder
        if folder in self.folders:
            self._note(folder, "created", item)
        elif folder == NOWHERE:
            self.items.remove(item)
            self._by_message_id[item.message.message_id.casefold()].remove(item)

    def submit(self, item: Item, leaves: float) -> None:
        item.submitted, item.leaves = True, leaves
        self._under_way.append(item)

    def settle(self, now: float, *, same_id: bool) -> None:
        """What is due goes to Sent Items."""
        due = [item for item in self._under_way if item.leaves is not None and item.leaves <= now]
        for item in due:
            self._under_way.remove(item)
            item.draft, item.sent, item.leaves, item.modified = False, item.leaves, None, now
            if item.folder in self.folders:  # deleted while it was under way: the message left all the same
                self.move(item, "sentitems" if item.keep else NOWHERE, new_immutable=not same_id, same_id=same_id)

    def _note(self, folder: str, kind: str, item: Item) -> None:
        self.changes.setdefault(folder, []).append(Change(next(self._numbers), kind, item, item.id, item.immutable))
