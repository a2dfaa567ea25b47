"""Texts of issues that `plan` reports about files, people and existing deliveries, each with a hint."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from distributor.model.certificates import CertificateInfo, Locator, SourceMaterial
from distributor.model.delivery import ExistingDelivery, ServedBy, Taken
from distributor.model.issues import CheckId, Issue, Severity, WorkerFailure
from distributor.model.people import escape_unsafe
from distributor.model.revocation import INCIDENT_RECORDED, is_hold
from distributor.model.states import State, Way
from distributor.workflows.roster import PRIMARY_ONLY

ABSENT = {
    "roster": ("on the roster", "add the person to the roster, or remove the file"),
    "directory": ("in the directory", "have the certificate revoked if the person has left; [[rosters]] may also leave them out"),
}
OLD_SIGNING_KEY = "this expired certificate is for signing only: its key is not delivered"
OWN_KEY = "have a certificate with a key of its own issued for each"
_MAY_GO_BACK = frozenset({State.PLANNED, State.QUEUED, State.DEFERRED, State.REJECTED, State.BOUNCED})
_RESEND = {Way.MAIL: "`distributor resend` makes a new message with a new password", Way.INTUNE: "`distributor resend` imports it again"}
_SENDS, _IMPORTS = "`distributor send` sends it", "`distributor intune import` imports it"
_UNCLEAR = "run `distributor resolve`: it is not known whether it arrived"
_NEXT: Mapping[Way, Mapping[State, str]] = {
    Way.MAIL: {
        State.PLANNED: _SENDS,
        State.QUEUED: _SENDS,
        State.DEFERRED: "run `distributor send` when it is due again, or `distributor send --now`",
        State.CLAIMED: "wait for `distributor send` to finish",
        State.TRANSMITTING: "wait for `distributor send` to finish",
        State.AMBIGUOUS: _UNCLEAR,
    },
    Way.INTUNE: {
        State.PLANNED: _IMPORTS,
        State.QUEUED: _IMPORTS,
        State.DEFERRED: _IMPORTS,
        State.CLAIMED: "wait for `distributor intune import` to finish",
        State.TRANSMITTING: "wait for `distributor intune import` to finish",
        State.AMBIGUOUS: _UNCLEAR,
    },
}
_BEFORE = frozenset({State.PLANNED, State.QUEUED, State.DEFERRED})  # nothing has left yet


_WAYS = {Way.MAIL: "by mail", Way.INTUNE: "by Intune"}


def served_otherwise(address: str, by: ServedBy, source: str) -> Issue:
    """The note about somebody who gets certificates by another way."""
    message = f"this person is served {_WAYS[by.way]} (last change {by.since:%Y-%m-%d})"
    hint = "nothing to do; --both delivers by mail and by Intune"
    return Issue(Severity.NOTE, CheckId.OTHER_WAY, message, hint, source, address=address)


def already(known: ExistingDelivery, source: str) -> Issue:
    """The note of a certificate that has a delivery for this person already."""
    yet = ", and not sent yet" if known.state in _BEFORE else ""
    message = f"this certificate is {known.state} for this person since {known.since:%Y-%m-%d}{yet}"
    way = known.request.way
    hint = _NEXT[way].get(known.state, _RESEND[way])
    return Issue(Severity.NOTE, CheckId.ALREADY_SENT, message, hint, source, None, str(known.request.person.address))


def revocation(reason: str) -> Issue:
    """A certificate that the ledger knows to be revoked, whatever a CRL says now."""
    hint = "run `distributor trust watch` to check whether it is valid again" if is_hold(reason) else "have a new certificate issued"
    if reason.startswith(INCIDENT_RECORDED):
        hint = "have a new certificate with a new key issued"
    return Issue(Severity.ERROR, CheckId.REVOKED, reason, hint)


def without_rows(issue: Issue) -> Issue:
    """The same issue without the advice to correct a row, where there is no roster."""
    return replace(issue, hint=f"{PRIMARY_ONLY}; have one issued for that") if issue.check is CheckId.ADDRESS_MISMATCH else issue


def other_language(language: str, written: str, number: int) -> Issue:
    """The note of messages in a language that has no templates."""
    messages = "1 message" if number == 1 else f"{number} messages"
    text = f'there are no templates for the language "{escape_unsafe(language)}": {messages} will be in "{written}"'
    hint = f"correct the roster's column `language`, or write templates/message/{escape_unsafe(language)}/"
    return Issue(Severity.NOTE, CheckId.BAD_ROW, text, hint, "templates/message")


def lost(failed: WorkerFailure) -> Issue:
    """A file that could not be opened within its limits of time and memory, or that crashed the child process."""
    hint = "check the file, or export it again"
    match failed.reason:
        case "time":
            return Issue(Severity.ERROR, CheckId.TOO_COSTLY, "opening it takes longer than `limits.open_seconds` allows", hint)
        case "memory":
            return Issue(Severity.ERROR, CheckId.TOO_COSTLY, "opening it takes more memory than allowed", hint)
        case _:
            return Issue(Severity.ERROR, CheckId.UNREADABLE, "the program that tried to open it crashed", hint)


def too_few_files(without: int, unopened: int) -> Issue:
    """The error of people whom not even all files that could not be opened explain; which people these are, nobody knows yet."""
    lack = f"{without - unopened} or more have no file here"
    message = f"{without} people have no certificate, but only {unopened} files could not be opened: {lack}"
    hint = "correct what is wrong with the files and plan again; that names who has none"
    return Issue(Severity.ERROR, CheckId.NO_CERTIFICATE, message, hint)


def locator(material: SourceMaterial) -> Locator:
    """Where the files of a material are found again."""
    return Locator(material.form, tuple((part.path, part.member, part.sha256) for part in material.parts))


def common_name(info: CertificateInfo) -> str:
    """The name in the subject (RFC 4514), unless it is an address."""
    for part in info.subject.replace("\\,", "\0").split(","):
        kind, _, value = part.partition("=")
        if kind.strip().upper() == "CN" and "@" not in value:
            return value.replace("\0", ",").replace("\\", "").strip()
    return ""


def one_key(address: str, other: str, source: str | None) -> Issue:
    """The issue of two people of one plan who have the same key."""
    message = f'the certificates of "{address}" and "{other}" have the same key: whoever has it can read the mail of both'
    return Issue(Severity.ERROR, CheckId.DUPLICATE, message, OWN_KEY, source, None, address)


def already_taken(found: Taken, source: str) -> Issue:
    """The issue of a certificate or key that another person has according to the ledger."""
    address = str(found.draft.person.address)
    who = f'"{found.address}"' + (f" ({found.name})" if found.name else "")
    unclear = ", and may have arrived there," if found.state is State.WITHDRAWN else ""
    standing = f"{found.state} for {who} since {found.since:%Y-%m-%d}{unclear}"
    if found.same_certificate:
        message = f'this certificate is {standing} and cannot be for "{address}" too: one certificate is for one person'
    else:
        message = f'a certificate with the same key is {standing}, so "{address}" could read the mail of both'
    hint = f'have a certificate with a new key issued for "{address}", also where both are one person with a new address'
    if found.state in _MAY_GO_BACK:
        hint = f"{hint}; or, if the other one is wrong, run `distributor withdraw {found.delivery} --reason TEXT`"
    return Issue(Severity.ERROR, CheckId.DUPLICATE, message, hint, source, None, address)
