"""Why a message was not delivered: the class of an enhanced status code (RFC 3463) and of a server's words, in plain language. Pure.

Codes that mean one thing come first, then well-known words, then the code's subject. Exchange Online's own codes have three digits at the
end (5.0.350, 5.7.606); the reply that rejects a message says the same as the report that is sent later.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum


class BounceClass(StrEnum):
    """The reason of a failed delivery, as evidence and `track` name it."""

    MAILBOX_FULL = "mailbox-full"
    NO_SUCH_MAILBOX = "no-such-mailbox"
    NO_SUCH_DOMAIN = "no-such-domain"
    MAILBOX_DISABLED = "mailbox-disabled"
    ATTACHMENT_REFUSED = "attachment-refused"
    MESSAGE_TOO_LARGE = "message-too-large"
    BLOCKED = "blocked"
    POLICY = "policy"
    EXPIRED = "expired"
    MAIL_LOOP = "mail-loop"
    OTHER = "other"


_C = BounceClass
WORDS = {
    _C.MAILBOX_FULL: "the mailbox is full",
    _C.NO_SUCH_MAILBOX: "there is no such mailbox",
    _C.NO_SUCH_DOMAIN: "the domain does not exist or accepts no mail",
    _C.MAILBOX_DISABLED: "the mailbox is disabled",
    _C.ATTACHMENT_REFUSED: "the organisation refuses this attachment type",
    _C.MESSAGE_TOO_LARGE: "the message is too large for the recipient",
    _C.BLOCKED: "the receiving server blocks our server or takes the message for spam",
    _C.POLICY: "the organisation's policy refuses the message",
    _C.EXPIRED: "the receiving server did not take the message in time",
    _C.MAIL_LOOP: "the receiving servers pass the message round in a loop",
    _C.OTHER: "the message could not be delivered",
}
_RESEND = 'then: distributor resend {address} --reason "it bounced"'
REMEDIES = {  # what to do, in a line; `{address}` is the recipient
    _C.MAILBOX_FULL: f"have the recipient free space, {_RESEND}",
    _C.NO_SUCH_MAILBOX: "withdraw the delivery, correct the address in the roster, then plan again",
    _C.NO_SUCH_DOMAIN: "withdraw the delivery, correct the address in the roster, then plan again",
    _C.MAILBOX_DISABLED: f"have the mailbox enabled, {_RESEND}",
    _C.ATTACHMENT_REFUSED: f"have .p12 and .pfx files from the sender allowed there, {_RESEND}",
    _C.MESSAGE_TOO_LARGE: f"have the limit raised there, {_RESEND}",
    _C.BLOCKED: f"have the sender allowed there, {_RESEND}",
    _C.POLICY: f"have the sender allowed there, {_RESEND}",
    _C.EXPIRED: f"check that mail to this domain works, {_RESEND}",
    _C.MAIL_LOOP: f"have the forwarding at the recipient's corrected, {_RESEND}",
    _C.OTHER: f"read the server's words, {_RESEND}",
}

# Codes without their first digit: a server that gave up after hours reports the temporary one (4.2.2, 4.4.7) as failed.
_CODES = {
    _C.MAILBOX_FULL: r"2\.2",
    _C.NO_SUCH_MAILBOX: r"1\.(?:1|3|6|10)",
    _C.NO_SUCH_DOMAIN: r"1\.2|4\.(?:4|31\d)",
    _C.MAILBOX_DISABLED: r"2\.1",
    _C.ATTACHMENT_REFUSED: r"0\.350",
    _C.MESSAGE_TOO_LARGE: r"(?:2\.3|3\.4)",
    _C.BLOCKED: r"1\.8|7\.(?:5\d\d|6\d\d|70\d|750)",
    _C.POLICY: r"7\.(?:2\d|1\d\d)",
    _C.EXPIRED: r"4\.(?:7|300)",
    _C.MAIL_LOOP: r"4\.(?:6|14)",
}
_TEXTS = {
    _C.ATTACHMENT_REFUSED: (
        r"(?:attachment|file)s?(?:\s\S+){0,6}\s(?:not allowed|refused|rejected|prohibited|blocked|forbidden|not accepted|denied)"
        r"|(?:blocked|forbidden|prohibited|banned|illegal|disallowed|invalid|unacceptable) (?:attachment|file|extension)"
        r"|file type that is not allowed|presents a potential security issue"
    ),
    _C.MAILBOX_FULL: (
        r"mailbox(?: is)? (?:full|over quota)|(?:over|exceed\w*|out of)(?: \S+){0,3} (?:quota|storage)|quota(?: \S+){0,2} exceeded"
        r"|inbox is full|insufficient (?:system storage|disk space)|storage allocation"
    ),
    _C.MESSAGE_TOO_LARGE: (
        r"(?:message|mail|size)(?: \S+){0,4} (?:too (?:large|big|long)|exceeds?(?: \S+){0,5} (?:limit|maximum|size|fixed))"
    ),
    _C.MAILBOX_DISABLED: r"(?:mailbox|account|user)(?: \S+){0,3} (?:disabled|suspended|inactive|locked|deactivated|discontinued)",
    _C.NO_SUCH_DOMAIN: (
        r"(?:host|domain)(?: name)?(?: \S+){0,3} (?:not found|does not exist|lookup failure|unknown)|name or service not known"
        r"|domain not found|nxdomain|no mx|null mx|couldn't find any host|unrouteable mail domain|unresolvable domain"
    ),
    _C.NO_SUCH_MAILBOX: (
        r"(?:user|mailbox|recipient|address|account)(?: \S+){0,4} (?:unknown|not found|does ?n[o']t exist|no longer (?:exists|available))"
        r"|(?:unknown|invalid|no such|nonexistent) (?:\S+ )?(?:user|mailbox|recipient|address|account|person)"
        r"|doesn't have an? \S+ account|no mailbox here by that name|recipientnotfound|not listed in"
        r"|recipient address rejected: access denied|unrouteable address"
    ),
    _C.BLOCKED: (
        r"\b(?:spam\w*|blacklist\w*|blocklist\w*|block list|black list|rbl|dnsbl|barracuda)\b|reputation"
        r"|(?:blocked|listed|banned) (?:by|using|at|in|on)\b|likely unsolicited|client host(?: \S+)? blocked"
    ),
    _C.POLICY: r"\b(?:policy|policies|dmarc|spf|dkim|not authorized|not permitted|administrative prohibition|access denied|refused by)\b",
    _C.EXPIRED: (
        r"(?:message|retry|delivery|queue)(?: \S+){0,3} (?:expired|timed? ?-?out|too long|timeout exceeded)"
        r"|connection (?:timed out|refused)|no answer from host|too long in (?:the )?queue|could not be delivered for"
    ),
    _C.MAIL_LOOP: r"mail loop|routing loop|too many hops|hop count exceeded|loops back",
}
_SUBJECTS = {"1": _C.NO_SUCH_MAILBOX, "7": _C.POLICY}  # of what neither code nor words decide (RFC 3463 3.2, 3.8)
_LONGEST = 1000  # characters of a server's words that are compared
_BY_CODE = [(kind, re.compile(rf"[45]\.(?:{codes})")) for kind, codes in _CODES.items()]
_BY_WORDS = [(kind, re.compile(words, re.IGNORECASE)) for kind, words in _TEXTS.items()]
_STATUS = re.compile(r"(?<![\d.])([245]\.\d{1,3}\.\d{1,3})(?![\d.])")


@dataclass(frozen=True, slots=True)
class Bounce:
    """Why it failed. `said`: in plain language, with the server's words."""

    kind: BounceClass
    said: str


def classify(status: str, diagnostic: str) -> BounceClass:
    """The class of a failure. A code among the words counts where the status is a general one (5.0.0) or none."""
    words = " ".join(diagnostic[:_LONGEST].split())
    code = _specific(status, words)
    for kind, pattern in _BY_CODE:
        if pattern.fullmatch(code):
            return kind
    for kind, pattern in _BY_WORDS:
        if pattern.search(words):
            return kind
    return _SUBJECTS.get(code[2:3], BounceClass.OTHER)


def bounce(status: str, diagnostic: str) -> Bounce:
    """Class and words of a failure."""
    kind = classify(status, diagnostic)
    return Bounce(kind, with_reply(WORDS[kind], status, diagnostic))


def with_reply(words: str, status: str, diagnostic: str) -> str:
    """Words of ours, then the status and the server's own: `the mailbox is full: 5.2.2 Quota exceeded`."""
    said = " ".join(diagnostic.split())
    reply = said if status in said else f"{status} {said}".strip()
    return f"{words}: {reply}" if reply else words


def _specific(status: str, words: str) -> str:
    found = _STATUS.search(words)
    general = not status or status[1:] == ".0.0"
    return found[1] if found and general else status
