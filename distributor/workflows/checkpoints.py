"""Signs checkpoints of the audit log, verifies given ones, and writes the message to an auditor.

A checkpoint is only signed where it continues the one before: (1) the last one that the ledger keeps is the one that was signed, (2) its
tree has that root, (3) the ledger has the event that it ended with, (4) this is not an older copy of the ledger.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape
from typing import NamedTuple

from distributor.errors import InvalidInput
from distributor.mail.message import Attachment, Mailbox, MessageHeaders, RenderedText, compose
from distributor.model.checkpoints import (
    Checkpoint,
    CheckpointComparison,
    KnownCheckpoint,
    StoredCheckpoint,
    Tree,
    VerifierKey,
    Verify,
    checkpoint_text,
    parse_checkpoints,
    root,
    signature_fault,
    signed_note,
)
from distributor.model.people import escape_unsafe
from distributor.model.ports import Ledger

TEXT_TYPE = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Signer:
    """A key with its private part, and how signatures are verified."""

    key: VerifierKey
    sign: Callable[[bytes], bytes]
    verify: Verify


class Signed(NamedTuple):
    """A checkpoint as the ledger keeps it now, the one before, and whether it is new."""

    stored: StoredCheckpoint
    checkpoint: Checkpoint
    before: StoredCheckpoint | None
    new: bool


def sign(ledger: Ledger, signer: Signer, stamp: Callable[[bytes], bytes | None]) -> Signed | None:
    """Sign and keep a checkpoint of all events; the last one again where there are no new ones, None where there are none at all.

    `stamp`: the RFC 3161 token of a note, or None. Raises InvalidInput where the checkpoint would not continue the one before.
    """
    if (found := ledger.restored()) is not None:
        raise InvalidInput(f"no checkpoint was signed: {found.message}", hint=found.hint)
    last = ledger.last_checkpoint()
    tree = Tree()
    if last is not None:
        checkpoint = _continued(last, signer)
        tree = Tree(last.size, last.edge, last.event)
    ledger.grow(tree)
    if last is not None and tree.size == last.size:
        return Signed(last, checkpoint, last, new=False)
    if not tree.size:
        return None
    text = checkpoint_text(signer.key.name, tree.size, root(tree.edge))
    note = signed_note(text, signer.key, signer.sign(text.encode()))
    new = StoredCheckpoint(tree.size, ledger.now(), note, tree.edge, tree.event, stamp(note.encode()))
    kept = ledger.keep_checkpoint(new)  # before it is published; where another process was faster, its checkpoint
    return Signed(kept, _parsed(kept), last, new=True)


def _parsed(stored: StoredCheckpoint) -> Checkpoint:
    found = parse_checkpoints(stored.note)
    if len(found) != 1 or not isinstance(found[0], Checkpoint) or found[0].size != stored.size:
        raise _changed(stored)
    return found[0]


def _continued(last: StoredCheckpoint, signer: Signer) -> Checkpoint:
    """The checkpoint that a new one continues."""
    checkpoint = _parsed(last)
    whole = len(last.edge) == last.size.bit_count() and root(last.edge) == checkpoint.root
    ours = any((name, id_) == (signer.key.name, signer.key.id) for name, id_, _ in checkpoint.signatures)
    if not whole or checkpoint.origin != signer.key.name or (ours and signature_fault(checkpoint, [signer.key], signer.verify)):
        raise _changed(last)
    return checkpoint


def _changed(stored: StoredCheckpoint) -> InvalidInput:
    message = f"the ledger's checkpoint of {stored.size} events was changed, so no new one is signed"
    return InvalidInput(message, hint="run `distributor audit verify`")


def comparison(
    files: Iterable[tuple[str, str]], keys: Sequence[VerifierKey], verify: Verify, faults: Iterable[str] = ()
) -> CheckpointComparison:
    """Compares a chain with the checkpoints in files (name and text), those with a good signature of one of these keys.

    `faults`: what else was wrong with the files.
    """
    known, faults = [], list(faults)
    for name, text in files:
        found = parse_checkpoints(text)
        if not found:
            faults.append(f"{name}: no checkpoint in it")
        for checkpoint in found:
            fault = checkpoint if isinstance(checkpoint, str) else signature_fault(checkpoint, keys, verify)
            if isinstance(checkpoint, Checkpoint) and fault is None:
                known.append(KnownCheckpoint(name, checkpoint.size, checkpoint.root))
            else:
                faults.append(escape_unsafe(f"{name}: {fault}"[:300]))
    return CheckpointComparison(known, faults)


def auditor_message(sender: Mailbox, recipient: Mailbox, signed: Signed, moment: datetime, token: str) -> tuple[str, bytes]:
    """The message that brings an auditor a checkpoint as an attachment: its Message-ID and its bytes. `token`: random, in hex."""
    size, key = signed.checkpoint.size, signed.checkpoint.origin
    text = (
        f"The audit log {key} has {size} {'event' if size == 1 else 'events'}. The attached file is a signed checkpoint of all of them.\n\n"
        "Please keep it. With it you can prove later that none of these events was changed or removed:\n\n"
        "    distributor audit verify EXPORT --checkpoint FILE --key KEY\n\n"
        "or, without distributor, with the program that comes with each export. Ask for the public key once, and in another way.\n"
    )
    rendered = RenderedText("en", f"Checkpoint of {size} events: {key}", text, f"<html><body><pre>{escape(text)}</pre></body></html>")
    message_id = f"checkpoint.{size}.{token}@{sender.address.domain}"
    headers = MessageHeaders(sender, recipient, moment, message_id, token)
    attached = Attachment(f"checkpoint-{size}.txt", signed.stored.note.encode(), TEXT_TYPE)
    return f"<{message_id}>", compose(headers, rendered, attached)


def first_of_its_day(signed: Signed) -> bool:
    """Whether no earlier checkpoint of the ledger is from the same day (UTC)."""
    return signed.new and (signed.before is None or signed.before.at.date() != signed.stored.at.date())
