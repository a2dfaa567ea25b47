"""What a received mail is: a report about a message of ours, a receipt, a signed answer, a request, an automatic reply, or unknown."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from distributor.model.people import Address


class Action(StrEnum):
    """What a server did with a message, for one recipient (RFC 3464, 2.3.3)."""

    FAILED = "failed"
    DELAYED = "delayed"
    DELIVERED = "delivered"
    RELAYED = "relayed"  # to a server that makes no reports
    EXPANDED = "expanded"  # to the members of a list


@dataclass(frozen=True, slots=True)
class Reference:
    """Which message a mail is about, as far as it says. Message-IDs in angle brackets."""

    returned: tuple[str, ...] = ()  # Message-IDs in the returned message or header, or named by the report
    envelope_id: str = ""  # Original-Envelope-Id: the ENVID that we gave
    answers: tuple[str, ...] = ()  # Message-IDs in In-Reply-To and References


@dataclass(frozen=True, slots=True)
class RecipientReport:
    """The report for one recipient. What a server did not say is empty."""

    address: str  # Address.key of the original recipient, else of the final one
    action: Action
    status: str  # enhanced status code (RFC 3463) such as "5.1.1"
    diagnostic: str  # the server's words, in one line


@dataclass(frozen=True, slots=True)
class DeliveryReport:
    """A report on the delivery of a message (RFC 3464, or text that means the same)."""

    about: Reference
    recipients: tuple[RecipientReport, ...]
    reporter: str  # the host that made it; empty where it does not say
    machine_readable: bool  # False: guessed from the text; nothing but the Message-ID makes it count


@dataclass(frozen=True, slots=True)
class ReadReceipt:
    """A message was displayed, or deleted unread (RFC 8098)."""

    about: Reference
    address: str  # Address.key of the recipient
    disposition: str  # "displayed", "deleted", ...
    automatic: bool  # sent without a person's decision


@dataclass(frozen=True, slots=True)
class SignedAnswer:
    """A mail with an S/MIME signature. `valid`: the signature fits its content; whose certificate that is, the ledger knows."""

    sender: str  # Address.key of From; empty where there is not one
    message_id: str
    about: Reference
    named: tuple[str, ...]  # deliveries that the signed content names
    valid: bool
    reason: str  # why it is not valid
    certificate: str  # SHA-256 of the signer's certificate, in hex
    signature: str  # SHA-256 of the signature value, in hex: a replayed answer has it again
    signed_at: datetime | None  # signingTime, a signed attribute
    proof: str = ""  # SignedData with this signature alone, in base64: can be verified with the certificate, and names nobody


@dataclass(frozen=True, slots=True)
class CopyRequestNotice:
    """Somebody asks for another copy."""

    sender: Address  # From
    message_id: str
    answers: tuple[str, ...]  # Message-IDs in In-Reply-To and References
    direct: bool  # to one of our mailboxes
    sent_at: datetime | None
    unauthenticated: str  # why the sender is not proved to be the one in From; empty: it is


@dataclass(frozen=True, slots=True)
class AutomaticReply:
    """A program wrote it: an absence note, a mailing list. Never answered."""

    sign: str  # the header field that shows it


@dataclass(frozen=True, slots=True)
class Unknown:
    """Anything else."""

    reason: str


Notice = DeliveryReport | ReadReceipt | SignedAnswer | CopyRequestNotice | AutomaticReply | Unknown
