"""Classifies SMTP replies by the command they answer: what they mean for the message (RFC 5321 4.2, RFC 3463). Pure.

An outcome keeps the code and text of its reply; what concerns the whole job (sign-in, sender, quota) stops the mailbox.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from distributor.errors import Error, ServiceUnavailable
from distributor.model.attempts import Accepted, Ambiguous, Deferred, NotSent, Outcome, Rejected
from distributor.model.people import bounded

MAX_RETRY_AFTER = timedelta(hours=24)  # the most that a server may ask for
_CODE = range(200, 600)
_GO_AHEAD = 354


class Phase(StrEnum):
    """The last command; after END_OF_DATA only the reply tells whether the message was accepted."""

    CONNECT = "connection"
    EHLO = "EHLO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    RSET = "RSET"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    END_OF_DATA = "the message"


@dataclass(frozen=True, slots=True)
class Reply:
    """A well-formed reply."""

    code: int
    text: str

    @property
    def detail(self) -> str:
        """Code and text on one line, without control characters, bounded."""
        return bounded(f"{self.code} {' '.join(self.text.split())}".strip())

    @property
    def status(self) -> str:
        """The enhanced status code (RFC 3463), or an empty string."""
        found = re.match(r"\s*([245]\.\d{1,3}\.\d{1,3})\b", self.text)
        return found[1] if found else ""


@dataclass(frozen=True, slots=True)
class Lost:
    """No well-formed reply: the connection was lost, time ran out, or the reply made no sense. The connection is closed."""

    why: str


def classify_reply(verb: Phase, response: Reply | Lost, where: str, *, oauth: bool = False) -> Outcome | None:
    """What a reply means for the message; None: go on. `where` names the server in errors; `oauth`: signed in with a token."""
    match response:
        case Lost(why):
            text = bounded(f"{verb}: {why}")
            return Ambiguous(text) if verb is Phase.END_OF_DATA else NotSent(text)
        case Reply(code) if code not in _CODE:
            return classify_reply(verb, Lost(f"unexpected response: {response.detail}"), where)
        case Reply(code) if code < 400:  # noqa: PLR2004  the first digit is the class
            return _positive(verb, response, where)
        case _:
            return _negative(verb, response, where, oauth=oauth)


def _positive(verb: Phase, reply: Reply, where: str) -> Outcome | None:
    if (reply.code == _GO_AHEAD) if verb is Phase.DATA else (reply.code < 300):  # noqa: PLR2004
        return Accepted(reply.detail) if verb is Phase.END_OF_DATA else None
    return classify_reply(verb, Lost(f"unexpected response: {reply.detail}"), where)


def _negative(verb: Phase, reply: Reply, where: str, *, oauth: bool) -> Outcome:
    if _THROTTLED.search(reply.text) and (reply.code < 500):  # noqa: PLR2004
        return NotSent(reply.detail, throttled=True)
    if error := _job_refusal(verb, reply, where, oauth=oauth):
        return NotSent(reply.detail, fatal=error)
    if reply.code < 500:  # noqa: PLR2004
        return _transient(verb, reply)
    return _permanent(verb, reply, where)


def _transient(verb: Phase, reply: Reply) -> Outcome:
    if verb in {Phase.CONNECT, Phase.EHLO, Phase.STARTTLS, Phase.AUTH, Phase.RSET}:
        return NotSent(reply.detail)  # not about this message
    hint = next((hint for pattern, hint in _SERVER_TROUBLE if pattern.search(reply.detail)), None)
    if hint is not None:
        return Deferred(reply.detail, retry_after(reply.text), service=True, hint=hint)
    return Deferred(reply.detail, retry_after(reply.text), service=reply.code == 421 or verb is Phase.MAIL)  # noqa: PLR2004


def _permanent(verb: Phase, reply: Reply, where: str) -> Outcome:
    oversized = (reply.code == 552 and not reply.status.startswith("5.2.")) or reply.status.startswith(("5.3.4", "5.6."))  # noqa: PLR2004
    match verb:
        case Phase.DATA | Phase.END_OF_DATA:
            return Rejected(reply.detail, content=True)
        case Phase.RCPT:
            return Rejected(reply.detail, content=oversized or reply.status.startswith("5.7."))
        case Phase.MAIL if oversized:
            return Rejected(reply.detail, content=True)
        case Phase.MAIL:
            return NotSent(reply.detail, fatal=ServiceUnavailable(f'the sender was refused: "{reply.detail}"', where=where, hint=_SENDER))
        case _:
            return NotSent(reply.detail, fatal=ServiceUnavailable(f'{verb} was refused: "{reply.detail}"', where=where, hint=_SERVER))


def retry_after(text: str) -> timedelta | None:
    """How long the server asks to wait ("try again in 300 seconds"); None where it does not say."""
    found = re.search(r"\b(?:in|after|for)\s+(\d{1,6})\s*(s|secs?|seconds?|m|mins?|minutes?|h|hours?)\b", text, re.IGNORECASE)
    if not found:
        return None
    unit = {"s": 1, "m": 60, "h": 3600}[found[2][0].lower()]
    return min(timedelta(seconds=int(found[1]) * unit), MAX_RETRY_AFTER)


# --- refusals of the whole job -------------------------------------------------------------------------------------

_THROTTLED = re.compile(
    r"4\.3\.2 (?:STOREDRV|Concurrent)|thread limit|concurrent connections? limit|too many (?:concurrent )?(?:\w+ )?connections",
    re.IGNORECASE,
)
_SENDER = "allow this account to send as `sender.address`, or set `sender.address` to its own mailbox"
_SERVER = "check `transport.host` and `transport.port`; the server's reply says why"
_SIGN_IN = "check `transport.username` and the secret behind `transport.password`"
_UNSIGNED = "set `transport.password` or `transport.oauth`, and `transport.username` if it differs from the sender's address"
_APP = (
    "grant the app SMTP.SendAsApp with admin consent; register it in Exchange with the object ID of its enterprise application (not "
    "of its app registration): New-ServicePrincipal -AppId CLIENT_ID -ObjectId OBJECT_ID; grant it the mailbox: Add-MailboxPermission "
    "MAILBOX -User OBJECT_ID -AccessRights FullAccess; then wait half an hour (see docs/exchange-online.md#2b-smtp-with-oauth)"
)
_PLAIN_TLS = 'set `transport.tls = "starttls"`'
_SMTP_AUTH = "SMTP sign-in is off for this mailbox or tenant; turn it on: Set-CASMailbox MAILBOX -SmtpClientAuthenticationDisabled $false"
_DEFAULTS = "the tenant's security defaults block SMTP sign-in with a password; use `transport.oauth` instead of `transport.password`"
_CRITERIA = (
    "conditional access or an authentication policy blocks this sign-in; exempt the account, or use `transport.oauth` instead of "
    "`transport.password`"
)
_POLICY = "conditional access or an authentication policy blocks this sign-in; see the app's sign-in log in Entra, and exempt the app"
_SEND_AS = "grant the account the right to send as `sender.address`: Add-RecipientPermission SENDER -Trustee ACCOUNT -AccessRights SendAs"
_SEND_AS_APP = (
    "set `transport.username` to the sender's own mailbox, or grant the app's service principal the right to send as the sender: "
    "Add-RecipientPermission SENDER -Trustee OBJECT_ID -AccessRights SendAs"
)
_BASIC = "this service no longer accepts passwords; use `transport.oauth` instead of `transport.password`, or a relay that accepts them"
_DIRECT = "direct send is off in this tenant; sign in with an account, or turn it on: Set-OrganizationConfig -RejectDirectSend $false"
_QUOTA = "the mailbox is full or its daily limit is reached; empty its Sent Items, or send again tomorrow"
_RELAY = "set `transport.password` or `transport.oauth`, or allow this machine to relay on the server"
_STORAGE = "free space on the mail server, then run `distributor send` again"
_RATE = "lower `transport.rate` or `transport.connections`, or run `distributor send` again later"
_THREAT = "this account or address is blocked from sending; unblock it in the service's security portal"

# what a 4xx says about the server; met by several messages in a row, it stops the mailbox
_SERVER_TROUBLE = tuple(
    (re.compile(pattern, re.IGNORECASE), hint)
    for pattern, hint in (
        (r"relay\w* (?:access )?(?:is )?(?:denied|not permitted|not allowed|prohibited)|unable to relay|^4\d\d 4\.7\.0 .*authenti", _RELAY),
        (r"^4\d\d 4\.3\.1\b|insufficient (?:system |disk )?(?:storage|resources|space)|disk (?:is )?full", _STORAGE),
        (r"too (?:much|many) (?:e?-?mails?|messages|connections|requests)|rate limit|sending limit|slow down", _RATE),
    )
)
_SESSION_LIMIT = re.compile(r"(?:messages|mails|recipients|transactions|commands)\b.*\b(?:session|connection)", re.IGNORECASE)


def is_session_limit(outcome: Outcome | None) -> bool:
    """Whether a server takes no more messages on this connection, but may on another one."""
    return isinstance(outcome, Deferred) and _SESSION_LIMIT.search(outcome.response) is not None


# (verbs; empty: any) (pattern over "code text") (hint; with a token). The first that matches counts; texts of Exchange Online (facts: 4).
_JOB_REFUSALS: tuple[tuple[frozenset[Phase], re.Pattern[str], str, str], ...] = tuple(
    (frozenset(verbs), re.compile(pattern, re.IGNORECASE | re.DOTALL), hint, token)
    for verbs, pattern, hint, token in (
        ((), r"^5\d\d 5\.7\.30\b", _BASIC, _APP),
        ((), r"^5\d\d .*SmtpClientAuthentication is disabled", _SMTP_AUTH, _SMTP_AUTH),
        ((), r"^5\d\d .*security defaults", _DEFAULTS, _POLICY),
        ((), r"^5\d\d .*did not meet the criteria", _CRITERIA, _POLICY),
        ((), r"^5\d\d 5\.7\.139\b", _SMTP_AUTH, _SMTP_AUTH),
        ((), r"^530 .*STARTTLS", _PLAIN_TLS, _PLAIN_TLS),
        ((), r"^530\b|^5\d\d 5\.7\.57\b", _UNSIGNED, _APP),
        ((), r"^(?:534|535|538)\b|^5\d\d 5\.7\.[389]\b", _SIGN_IN, _APP),
        ((), r"^5\d\d (?:5\.7\.60|5\.2\.252)\b|SendAsDenied", _SEND_AS, _SEND_AS_APP),
        ((), r"^5\d\d 5\.7\.68\b", _DIRECT, _DIRECT),
        ((), r"^5\d\d (?:5\.1\.8|5\.7\.70[58])\b", _THREAT, _THREAT),
        ((), r"^5\d\d 5\.1\.90\b", _QUOTA, _QUOTA),
        ((Phase.DATA, Phase.END_OF_DATA), r"^554 5\.2\.[02]\b|QuotaExceeded", _QUOTA, _QUOTA),
        ((Phase.MAIL,), r"^5\d\d 5\.2\.[02]\b", _QUOTA, _QUOTA),
    )
)


def _job_refusal(verb: Phase, reply: Reply, where: str, *, oauth: bool) -> Error | None:
    if reply.code < 500:  # noqa: PLR2004
        return None
    line = f"{reply.code} {reply.text}"
    for verbs, pattern, hint, token in _JOB_REFUSALS:
        if (not verbs or verb in verbs) and pattern.search(line):
            return ServiceUnavailable(
                f'the server refused to send for this account: "{reply.detail}"', where=where, hint=token if oauth else hint
            )
    return None
