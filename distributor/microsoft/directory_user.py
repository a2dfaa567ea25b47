"""Converts a user in Graph's JSON to a DirectoryUser. A bad address is an Issue or None, never an error."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import idna

from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import Address, BadAddress, DirectoryUser, Person, escape_unsafe, parse_address

FIELDS = (
    "id",
    "displayName",
    "mail",
    "proxyAddresses",
    "otherMails",
    "userPrincipalName",
    "accountEnabled",
    "preferredLanguage",
    "userType",
)
SOURCE = "directory"
_TAG = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_LANGUAGES: dict[str, str] = {}  # each text once, since there are many users and few languages
_NOTHING: Mapping[str, str] = {}  # shared, since there are many users


def is_guest(user: Mapping[str, Any]) -> bool:
    """Whether the user is a guest of another organisation."""
    return str(user.get("userType") or "").casefold() == "guest"


def name(user: Mapping[str, Any]) -> str:
    """The name by which an administrator knows the user."""
    return str(user.get("userPrincipalName") or user.get("id") or "")


def has_address(user: Mapping[str, Any]) -> bool:
    """Whether the user has an address, good or bad."""
    return bool(_primary(user)[0])


def spellings(address: Address) -> list[str]:
    """The address as an entry may have it: the domain in A-labels, or in Unicode."""
    try:
        unicode = f"{address.local}@{idna.decode(address.domain)}"
    except idna.IDNAError:
        unicode = str(address)
    return list(dict.fromkeys((str(address), unicode)))


def to_directory_user(user: Mapping[str, Any]) -> DirectoryUser | Issue | None:
    """The user; None without a mail address, and for a bad address of a disabled account."""
    written, authoritative = _primary(user)
    if not written:
        return None
    enabled = bool(user.get("accountEnabled"))
    match parse_address(written):
        case BadAddress() as fault:
            return _bad(user, fault) if enabled else None
        case address:
            pass
    others = dict.fromkeys(key for text in _texts(user) if (key := _key(text)) not in {"", address.key})
    return DirectoryUser(_person(user, address, others), enabled, tuple(others), authoritative)


def _primary(user: Mapping[str, Any]) -> tuple[str, bool]:
    """The address that Exchange calls primary (True), else `mail` (False); never the sign-in name (facts: sending.md 2)."""
    for proxy in user.get("proxyAddresses") or ():
        if str(proxy).startswith("SMTP:"):
            return str(proxy)[5:], True
    return str(user.get("mail") or ""), False


def _texts(user: Mapping[str, Any]) -> Iterator[str]:
    """Every address of a user, as written."""
    for proxy in user.get("proxyAddresses") or ():
        kind, _, text = str(proxy).partition(":")
        if kind.casefold() == "smtp":
            yield text
    for name in ("mail", "userPrincipalName"):
        yield str(user.get(name) or "")


def _key(text: str) -> str:
    """Address.key, or an empty string. ASCII is not parsed, only lowered: parsing hundreds of thousands would take seconds."""
    if text.isascii():
        return text.lower() if "@" in text else ""
    match parse_address(text):
        case Address() as address:
            return address.key
        case _:
            return ""


def _person(user: Mapping[str, Any], address: Address, others: Mapping[str, None]) -> Person:
    language = str(user.get("preferredLanguage") or "")
    return Person(
        address=address,
        name=" ".join(str(user.get("displayName") or "").split()),
        language=_LANGUAGES.setdefault(language, language) if _TAG.fullmatch(language) else "",
        alternate_email=_alternate(user, {address.domain, *(key.rpartition("@")[2] for key in others)}),
        columns=_NOTHING,
    )


def _alternate(user: Mapping[str, Any], own: set[str]) -> str:
    """The first address in another domain: one in the same mailbox would be no second channel."""
    for text in user.get("otherMails") or ():
        match parse_address(str(text)):
            case Address(domain=domain) as address if domain not in own:
                return str(address)
    return ""


def _bad(user: Mapping[str, Any], fault: BadAddress) -> Issue:
    message = f'the primary address of the user "{escape_unsafe(name(user))}" cannot be used: {escape_unsafe(fault.reason)}'
    return Issue(
        Severity.ERROR,
        CheckId.BAD_ADDRESS,
        message,
        "correct the address in Exchange or Entra",
        SOURCE,
        None,
        escape_unsafe(fault.text) or None,
    )
