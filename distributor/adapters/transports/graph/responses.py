"""Classifies Graph's answers by the request they answer: what they mean for the message (facts: sending.md 1.3 and 8). Pure.

Before the intent is recorded, everything may be repeated. After it a 202 means accepted, a refusal with an error code of Graph means
rejected, and whatever is unclear is ambiguous. What concerns the whole job (sign-in, permissions, quota) stops the mailbox.
"""

from __future__ import annotations

from enum import StrEnum

from distributor.clients.app_registration import SignInUnavailable
from distributor.clients.graph import HttpResponse, NoResponse, service_error
from distributor.clients.http import MAX_WAIT
from distributor.errors import Error, ServiceUnavailable
from distributor.model.attempts import Accepted, Ambiguous, NotSent, Outcome, Rejected
from distributor.model.people import bounded

Response = HttpResponse | NoResponse | Error  # an Error is a sign-in that failed: the request was not made, or was answered 401
_OK, _MANY, _BUSY, _FULL = 200, 429, 503, 507


class RequestStep(StrEnum):
    """The request that was made; after SEND and SENDMAIL only the answer tells whether the message was accepted."""

    LOOK = "search for an earlier draft"
    DRAFT = "create draft"
    SEND = "send"
    SENDMAIL = "sendMail"
    REMOVE = "delete copy"


_FINAL_STEPS = frozenset({RequestStep.SEND, RequestStep.SENDMAIL})


def describe(step: RequestStep, response: Response) -> str:
    """One line for the ledger: status, code, text and the request-id that Microsoft's support asks for."""
    match response:
        case HttpResponse(request_id=number):
            return bounded(f"{response.detail}, request-id {number}" if number else response.detail)
        case NoResponse(why):
            return bounded(f"{step}: {why}")
        case error:
            return bounded(f"{step}: {error}")


def classify_response(step: RequestStep, response: Response, mailbox: str, *, reached: bool) -> Outcome:
    """What an answer means for the message; `reached`: whether the service answered in this run.

    Not for an answer that lets the next step begin.
    """
    text = describe(step, response)
    match response:
        case Error():
            return NotSent(text, fatal=None if isinstance(response, SignInUnavailable) and reached else response)
        case NoResponse(request_sent=request_sent):
            stop = None if request_sent or reached else service_error(response, mailbox)
            return Ambiguous(text) if step in _FINAL_STEPS and request_sent else NotSent(text, fatal=stop)
        case _:
            return _answered(step, response, text, mailbox)


def _answered(step: RequestStep, answer: HttpResponse, text: str, mailbox: str) -> Outcome:
    match answer.status:
        case 202 if step in _FINAL_STEPS:
            return Accepted(text)  # even with a Retry-After: obeying that would send it twice
        case 401 | 403 | 404 | 429 | 507:
            return _refused(step, answer, text, mailbox)
        case 400 | 413:
            return _bad(step, answer, text, mailbox)
        case _ if step in _FINAL_STEPS:
            return Ambiguous(text)
        case status:
            return _retry_later(answer, text, mailbox, throttled=status == _BUSY and answer.retry_after is not None)


def _retry_later(answer: HttpResponse, text: str, mailbox: str, *, throttled: bool) -> NotSent:
    """Try again after the time that the service asks for; in the next run where that is too long."""
    if not answer.retry_after_exceeds(MAX_WAIT):
        return NotSent(text, throttled=throttled, retry_after=answer.retry_after)
    hint = f"run `distributor send` again {answer.when}"
    return NotSent(text, fatal=ServiceUnavailable(f'the service asks to wait longer than one run does: "{text}"', where=mailbox, hint=hint))


def _bad(step: RequestStep, answer: HttpResponse, text: str, mailbox: str) -> Outcome:
    """A refused request: by our fault, by the message's own, or from something else than Graph."""
    if fault := _FAULTS.get(answer.code) or _FAULTS.get(str(answer.status)):
        return NotSent(text, fatal=ServiceUnavailable(f'Graph rejected the request as malformed: "{text}"', where=mailbox, hint=fault))
    if step is not RequestStep.LOOK and answer.code:
        return Rejected(text, content=answer.code != "ErrorInvalidRecipients")
    if step in _FINAL_STEPS:
        return Ambiguous(text)
    return NotSent(text, fatal=ServiceUnavailable(f'unexpected response from Graph: "{text}"', where=mailbox, hint=_ROOT))


def _refused(step: RequestStep, answer: HttpResponse, text: str, mailbox: str) -> Outcome:
    """A refusal of the mailbox or the app; one that could be about a draft that was sent already is ambiguous."""
    hint = _HINTS.get(answer.code)
    if hint is None and answer.status == _MANY:
        return _retry_later(answer, text, mailbox, throttled=True)
    if hint is None and answer.status in {404, _FULL} and step in _FINAL_STEPS:
        return Ambiguous(text)
    hint = hint or _HINTS.get(str(answer.status), _ROOT)
    return NotSent(
        text,
        fatal=ServiceUnavailable(f'Graph refused to send from this mailbox: "{text}"', where=mailbox, hint=hint.format(mailbox=mailbox)),
    )


# --- refusals of the whole job: by Graph's code, then by the status --------------------------------------------------

PERMISSIONS = (
    'grant the app Mail.Send and Mail.ReadWrite for {mailbox}: in Exchange the roles "Application Mail.Send" and '
    '"Application Mail.ReadWrite" (RBAC for Applications), or in Entra with admin consent; changes take up to two hours'
)
_ROOT = "check `transport.graph` and `transport.mailbox`, and any proxy in between"
_QUOTA = "empty Sent Items if the mailbox is full; if its daily limit is reached, send again tomorrow or add [[senders]]"
_NOBODY = "write the user principal name of a mailbox into `transport.mailbox`; {mailbox} does not exist in this tenant"
_UNLICENSED = "give {mailbox} an Exchange Online licence, or make it a shared mailbox; Graph cannot use an on-premises mailbox"
_SEND_AS = (
    "set `sender.address` to the mailbox's own address, or grant the right to send as it: "
    "Add-RecipientPermission SENDER -Trustee {mailbox} -AccessRights SendAs"
)
_BLOCKED = "the mailbox is blocked from sending; unblock it in the Defender portal under Restricted entities"

_HINTS = {
    "ErrorSubmissionQuotaExceeded": _QUOTA,
    "ErrorExceededMessageLimit": _QUOTA,
    "ErrorQuotaExceeded": _QUOTA,
    "ErrorMessageSubmissionBlocked": _BLOCKED,
    "ErrorSendAsDenied": _SEND_AS,
    "ErrorInvalidUser": _NOBODY,
    "Request_ResourceNotFound": _NOBODY,
    "ErrorNonExistentMailbox": _UNLICENSED,
    "MailboxNotEnabledForRESTAPI": _UNLICENSED,
    "MailboxNotSupportedForRESTAPI": _UNLICENSED,
    "401": "check the app registration of `transport.client_id`; `transport.graph` and `transport.login` must belong to the same cloud",
    "403": PERMISSIONS,
    "507": _QUOTA,
}

_REPORT = "please report this line as a bug in distributor; nothing was sent and nothing is lost"
_FAULTS = {  # faults of this program, not of a message (facts: sending.md 1.3)
    "ErrorMimeContentInvalidBase64String": _REPORT,
    "InvalidInternetMessageHeaderCollection": _REPORT,
    "413": "Graph accepts 4 MB per request, a proxy perhaps less: make the message templates smaller and run "
    "`distributor resend`, or set `transport.kind` to smtp",
}
