"""Turns a received mail into a notice, in a child process: what `mail` recognises, else a signed answer whose signature `pki` verifies.

A file of its own, so that the process that records notices loads no cryptography.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from functools import partial

from distributor.mail import notices
from distributor.mail.notices import NoticeRules
from distributor.mail.received import Mail
from distributor.mail.signed import SignedParts, named_deliveries, signed_parts
from distributor.model.notices import Notice, SignedAnswer
from distributor.pki import cms


def reader(rules: NoticeRules) -> Callable[[bytes], Notice]:
    """`read` with these rules, for a pool of workers."""
    return partial(read, rules=rules)


def read(mail: bytes, rules: NoticeRules) -> Notice:
    """The notice in a mail; never raises. A signed mail that asks for another copy, or that a program wrote, is that and no answer."""
    return notices.parse(mail, rules, _read_signed)


def _read_signed(mail: Mail) -> SignedAnswer | None:
    parts = signed_parts(mail)
    return None if parts is None else _answer(parts)


def _answer(parts: SignedParts) -> SignedAnswer:
    found = cms.InvalidSignature(parts.reason) if parts.reason else cms.verify(parts.cms, parts.content)
    if isinstance(found, cms.InvalidSignature):
        return SignedAnswer(parts.sender, parts.message_id, parts.about, (), False, found.reason, "", "", None)
    return SignedAnswer(
        parts.sender,
        parts.message_id,
        parts.about,
        named_deliveries(found.content),
        valid=True,
        reason="",
        certificate=found.certificate,
        signature=found.value,
        signed_at=found.signed_at,
        proof=base64.b64encode(found.proof).decode(),
    )
