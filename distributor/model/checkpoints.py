"""Checkpoints of the audit log: a signed line about how many events there are and the root of a Merkle tree over all of them.

The text is that of C2SP tlog-checkpoint, signed as C2SP signed-note says (Ed25519, type 0x01). The tree is that of RFC 6962 2.1 with
SHA-256; the data of leaf n is the hash of event n+1 (32 bytes), which an export has too, also for people who were erased.
A tree is kept as its right edge: the roots of the full subtrees that it is made of, the largest first, one for each bit of its size.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple, Protocol

from distributor.model.audit_log import Link, SeenEvent

ORIGIN = "distributor/"  # and the ledger's name: the origin of its checkpoints, and the name of its keys
ED25519 = b"\x01"  # the signature type of a signed note
LONGEST_NOTE = 2**16  # characters; one with a signature has 250
_SIGNATURE = "\u2014 "  # an em dash begins a line with a signature
_ID = 4  # bytes of a key's id
_PUBLIC = 32  # bytes of a public key
_SIZE = re.compile(r"0|[1-9][0-9]{0,17}")
_NAME = re.compile(r"[^\s+]+")
_VKEY = re.compile(r"(?P<name>[^\s+]+)\+(?P<id>[0-9a-f]{8})\+(?P<key>[A-Za-z0-9+/]{44})")
_COMPACT = re.compile(r"checkpoint of [0-9]+ events?: (?P<note>[A-Za-z0-9+/=]{100,})")
_BATCH = 1024  # events whose hashes are put into the tree at once

Edge = tuple[bytes, ...]


# --- the tree --------------------------------------------------------------------------------------------------------


def extend(edge: Sequence[bytes], size: int, leaves: Iterable[bytes]) -> Edge:
    """The right edge of a tree of `size` leaves after more leaves; two hashes for each."""
    left, right = list(edge), []
    nodes = [sha256(b"\0" + leaf).digest() for leaf in leaves]
    while nodes:  # one level of the tree after the other; `size` counts the nodes that it had there
        if size & 1:
            nodes.insert(0, left.pop())
        if len(nodes) & 1:
            right.append(nodes.pop())
        pairs = iter(nodes)
        nodes = [sha256(b"\1" + one + other).digest() for one, other in zip(pairs, pairs, strict=True)]
        size >>= 1
    return (*left, *reversed(right))


def root(edge: Sequence[bytes]) -> bytes:
    """The root of a tree with this right edge."""
    if not edge:
        return sha256(b"").digest()
    *others, found = edge
    for node in reversed(others):
        found = sha256(b"\1" + node + found).digest()
    return found


class Tree:
    """A tree that grows event by event, in batches. `event` is the hash of its last event."""

    def __init__(self, size: int = 0, edge: Edge = (), event: str = "") -> None:
        self.size, self.event = size, event
        self._edge = edge
        self._waiting: list[bytes] = []

    def add(self, event: str) -> None:
        """Add the next event by its hash; what is no hash changes the root all the same."""
        try:
            self._waiting.append(bytes.fromhex(event))
        except ValueError:  # a forged file
            self._waiting.append(event.encode(errors="surrogatepass"))
        self.size, self.event = self.size + 1, event
        if len(self._waiting) == _BATCH:
            self._grow()

    def extend(self, events: Sequence[str]) -> None:
        """Add the next events by their hashes, which are such."""
        self._waiting += map(bytes.fromhex, events)
        self.size, self.event = self.size + len(events), events[-1] if events else self.event
        self._grow()

    @property
    def edge(self) -> Edge:
        """The right edge with every event that was added."""
        self._grow()
        return self._edge

    def _grow(self) -> None:
        self._edge = extend(self._edge, self.size - len(self._waiting), self._waiting)
        self._waiting.clear()


# --- keys and notes --------------------------------------------------------------------------------------------------


class VerifierKey(NamedTuple):
    """A public key and the name that it signs under; as text `NAME+ID+KEY`, a signed note's vkey."""

    name: str
    public: bytes  # 32 bytes, RFC 8032

    @property
    def id(self) -> bytes:
        """Four bytes that tell keys of one name apart."""
        return sha256(self.name.encode() + b"\n" + ED25519 + self.public).digest()[:_ID]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{base64.b64encode(ED25519 + self.public).decode()}"


def parse_key(text: str) -> VerifierKey:
    """A vkey. Raises ValueError, which says what is wrong."""
    match = _VKEY.fullmatch(text.strip())
    data = b"" if match is None else _decoded(match["key"])
    if match is None or data is None or data[:1] != ED25519 or len(data) != 1 + _PUBLIC:
        raise ValueError("not the public key of a checkpoint (NAME+ID+KEY, Ed25519)")
    key = VerifierKey(match["name"], data[1:])
    if key.id.hex() != match["id"]:
        raise ValueError("the key does not match its id; it was not copied whole")
    return key


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A parsed checkpoint. `text` is what was signed; `signatures` are (name, key id, signature), not verified yet."""

    origin: str
    size: int
    root: bytes
    text: str
    signatures: tuple[tuple[str, bytes, bytes], ...] = ()
    note: str = ""  # the text with its signatures


def checkpoint_text(origin: str, size: int, root: bytes) -> str:
    """The text of a checkpoint, to be signed."""
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"


def signed_note(text: str, key: VerifierKey, signature: bytes) -> str:
    """A text with its signature."""
    return f"{text}\n{_SIGNATURE}{key.name} {base64.b64encode(key.id + signature).decode()}\n"


def compact_line(checkpoint: Checkpoint) -> str:
    """A checkpoint as one line of ASCII, for a log; `parse_checkpoints` reads it."""
    events = "event" if checkpoint.size == 1 else "events"
    return f"checkpoint of {checkpoint.size} {events}: {base64.b64encode(checkpoint.note.encode()).decode()}"


def parse_checkpoints(text: str) -> list[Checkpoint | str]:
    """Every checkpoint of a file: notes one after another, or lines of a log; what cannot be read is a reason."""
    if compact := _COMPACT.findall(text):
        return [_from_line(line) for line in compact]
    return [_parsed(note) for note in _notes(text)]


def _from_line(line: str) -> Checkpoint | str:
    data = _decoded(line)
    try:
        return _parsed((data or b"").decode())
    except UnicodeDecodeError:
        return "not UTF-8"


def _notes(text: str) -> Iterator[str]:
    """A note ends with its last signature."""
    lines: list[str] = []
    for line in text.replace("\r\n", "\n").splitlines(keepends=True):
        if lines and lines[-1].startswith(_SIGNATURE) and not line.startswith(_SIGNATURE):
            yield "".join(lines)
            lines = []
        if lines or line.strip():
            lines.append(line)
    if lines:
        yield "".join(lines)


def _parsed(note: str) -> Checkpoint | str:
    text, empty, signatures = note.rpartition("\n\n")
    text += "\n"
    lines = text.split("\n")[:-1]
    if len(note) > LONGEST_NOTE or not empty or len(lines) < 3 or "" in lines:  # noqa: PLR2004  origin, size, root
        return "not a checkpoint: lines for origin, number of events and root, an empty line and a signature are expected"
    if any(ord(character) < ord(" ") and character != "\n" for character in note):
        return "not a checkpoint: it has control characters"
    found = _decoded(lines[2])
    if _SIZE.fullmatch(lines[1]) is None or found is None or len(found) != sha256().digest_size:
        return "not a checkpoint: its second line is no number of events, or its third no SHA-256 in base64"
    parsed = [_signature(line) for line in signatures.splitlines()]
    good = tuple(signature for signature in parsed if signature is not None)
    if not good or len(good) != len(parsed):
        return "not a checkpoint: a line with a signature is malformed"
    return Checkpoint(lines[0], int(lines[1]), found, text, good, note)


def _signature(line: str) -> tuple[str, bytes, bytes] | None:
    name, _, encoded = line.removeprefix(_SIGNATURE).partition(" ")
    data = _decoded(encoded)
    if not line.startswith(_SIGNATURE) or _NAME.fullmatch(name) is None or data is None or len(data) <= _ID:
        return None
    return name, data[:_ID], data[_ID:]


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


Verify = Callable[[bytes, bytes, bytes], bool]  # public key, signature, message


def signature_fault(checkpoint: Checkpoint, keys: Sequence[VerifierKey], verify: Verify) -> str | None:
    """Why none of these keys signed a checkpoint for the log that has the key's name; None where one did."""
    signed = False
    for name, id_, signature in checkpoint.signatures:
        for key in keys:
            if (key.name, key.id) == (name, id_):  # signatures of other keys are ignored
                if not verify(key.public, signature, checkpoint.text.encode()):
                    return f"the signature of {name} is not valid"
                signed = True
    if not signed:
        who = ", ".join(f"{name} (key {id_.hex()})" for name, id_, _ in checkpoint.signatures)
        return f"not signed by {' or '.join(f'{key.name} (key {key.id.hex()})' for key in keys)}, but by {who}"
    if all(key.name != checkpoint.origin for key in keys):
        return f'of another log: "{checkpoint.origin}"'
    return None


# --- comparison ------------------------------------------------------------------------------------------------------


class KnownCheckpoint(NamedTuple):
    """What a chain is compared with: `size` events have this root. `edge` and `event` are compared too where they are given."""

    name: str  # for people
    size: int
    root: bytes
    edge: Edge | None = None
    event: str | None = None  # the hash of event number `size`


class CheckpointComparison:
    """Compares a chain with checkpoints that it must begin with, event by event, as `ExportComparison` does with an export.

    `faults`: what was wrong with the checkpoints themselves.
    """

    def __init__(self, known: Iterable[KnownCheckpoint], faults: Iterable[str] = ()) -> None:
        self.matching: list[KnownCheckpoint] = []
        self._tree = Tree()
        self._faults = list(faults)
        self._waiting = sorted(known, key=lambda one: one.size, reverse=True)
        while self._waiting and not self._waiting[-1].size:
            self._compare(self._waiting.pop())

    @property
    def waits(self) -> bool:
        """Whether there are checkpoints of more events."""
        return bool(self._waiting)

    def step(self, link: SeenEvent | Link, /) -> Sequence[str]:
        """The checkpoints that end with this event and differ."""
        if not self._waiting:
            return ()
        self._tree.add(link.hash)
        return () if self._tree.size < self._waiting[-1].size else self._reached()

    @property
    def sizes(self) -> list[int]:
        """Of how many events each further checkpoint is."""
        return [known.size for known in self._waiting]

    def resume(self, trees: Iterable[Tree]) -> list[str]:
        """As `step` with each event up to the last of these trees; there is one for each checkpoint that ends before it."""
        found = []
        for tree in trees:
            self._tree = Tree(tree.size, tree.edge, tree.event)
            found += self._reached()
        return found

    def _reached(self) -> list[str]:
        before = len(self._faults)
        while self._waiting and self._waiting[-1].size == self._tree.size:
            self._compare(self._waiting.pop())
        found, self._faults[before:] = self._faults[before:], []
        return found

    def end(self, last: int) -> Iterator[str]:
        """What was wrong with the checkpoints, and those of more events than the chain has."""
        yield from self._faults
        for known in reversed(self._waiting):
            yield f"event {last}: is the last one, but {known.name} is of {known.size} events: the end was removed"

    def _compare(self, known: KnownCheckpoint) -> None:
        edge = self._tree.edge
        if root(edge) != known.root:
            events = "event 1" if known.size == 1 else f"events 1 to {known.size}"
            self._faults.append(f"{events}: not those of {known.name}, which has another root: they were changed since")
        elif (known.edge is not None and known.edge != edge) or (known.event is not None and known.event != self._tree.event):
            self._faults.append(f"{known.name}: its intermediate hashes do not match the events")
        else:
            self.matching.append(known)


# --- the ledger's ----------------------------------------------------------------------------------------------------


class StoredCheckpoint(NamedTuple):
    """A checkpoint as the ledger keeps it."""

    size: int
    at: datetime
    note: str
    edge: Edge
    event: str  # the hash of event number `size`
    token: bytes | None = None  # an RFC 3161 time stamp of the note (DER)


class Checkpoints(Protocol):
    """The ledger's methods about checkpoints."""

    def identity(self) -> str:
        """The ledger's name, which all its copies share. Raises InvalidInput where its first event was changed."""
        ...

    def last_checkpoint(self) -> StoredCheckpoint | None:
        """The checkpoint of the most events."""
        ...

    def grow(self, tree: Tree) -> None:
        """Add the events that the ledger has since; streams. Raises InvalidInput where it lacks the event that the tree ends with."""
        ...

    def keep_checkpoint(self, checkpoint: StoredCheckpoint) -> StoredCheckpoint:
        """Keep a checkpoint, durably; the result is the one that is there already, where it is of as many events."""
        ...
