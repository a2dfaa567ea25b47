"""Checks the values of tables whose types are right."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from distributor.config.audit import AuditLog, audit_faults
from distributor.config.converter import ConfigFault
from distributor.config.schema import AdapterKinds, MailRequests, Organisation, Password, Portal, Sender, SenderMailbox, VaultKeys
from distributor.model import passwords
from distributor.model.channels import PasswordTo
from distributor.model.limits import Limits
from distributor.model.people import Helpdesk, has_unsafe_chars

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_COLOUR = re.compile(r"#[0-9A-Fa-f]{6}")
_AUTHSERV_ID = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58,}")


def validate(own: Mapping[str, Any], kinds: AdapterKinds, folder: Path) -> list[ConfigFault]:
    """The faults of values whose types are right. `own`: the tables that belong to no adapter; `folder`: of the configuration."""
    faults: list[ConfigFault] = []
    match own.get("organisation"):
        case Organisation() as organisation:
            faults += _languages(organisation.languages) + _helpdesk(organisation.helpdesk) + _look(organisation)
    match own.get("vault"):
        case VaultKeys(recipients=recipients):
            faults += _recipients(recipients)
    match own.get("portal"):
        case Portal() as portal:
            faults += _portal(portal)
    match own.get("requests"):
        case MailRequests() as requests:
            faults += _requests(requests)
    match own.get("audit"):
        case AuditLog() as audit:
            faults += audit_faults(audit, folder)
    match own.get("limits"):
        case Limits() as limits:
            faults += _limits(limits)
    match own.get("password", Password()):
        case Password() as password:
            faults += _password(password, kinds.kinds("channels"))
    return faults + _validation_senders(own.get("sender"), own.get("senders", ()))


def _validation_senders(first: Sender | None, others: tuple[SenderMailbox, ...]) -> list[ConfigFault]:
    """Each mailbox has one rate limit and one quota, so it may be listed only once."""
    keys = Counter([first.address.key] if first else [])
    faults = []
    for number, other in enumerate(others):
        if keys[other.address.key]:
            message = f'"{other.address}" is listed twice'
            faults.append(ConfigFault(f"senders[{number}].address", message, "list each mailbox once; [sender] counts too"))
        keys[other.address.key] += 1
    return faults


def _languages(languages: tuple[str, ...]) -> list[ConfigFault]:
    if not languages:
        return [ConfigFault("organisation.languages", "empty", 'write at least one, such as ["en"]')]
    return [
        ConfigFault(f"organisation.languages[{n}]", f'"{language}" is not a language tag', 'write "en", "de" or "de-AT"')
        for n, language in enumerate(languages)
        if not _LANGUAGE.fullmatch(language)
    ]


def _helpdesk(helpdesk: Helpdesk) -> list[ConfigFault]:
    return [
        ConfigFault(f"organisation.helpdesk.{name}", "not a single line of plain text", "remove line breaks and control characters")
        for name, value in asdict(helpdesk).items()
        if has_unsafe_chars(value)
    ]


def _look(organisation: Organisation) -> list[ConfigFault]:
    faults = []
    if organisation.colour and not _COLOUR.fullmatch(organisation.colour):
        faults.append(ConfigFault("organisation.colour", f'"{organisation.colour[:40]}" is not a colour', 'write it as "#0b5394"'))
    if organisation.logo is not None and organisation.logo.suffix.lower() not in {".svg", ".png"}:
        faults.append(ConfigFault("organisation.logo", "not an SVG or PNG file", "save the logo as SVG or PNG"))
    return faults


def _portal(portal: Portal) -> list[ConfigFault]:
    faults = [_url(f"portal.{name}", value) for name, value in (("url", portal.url), ("authority", portal.authority))]
    faults += [
        ConfigFault(f"portal.{name}", "less than 1", "write at least 1, or remove the key")
        for name in ("daily", "monthly")
        if getattr(portal, name) < 1
    ]
    return [fault for fault in faults if fault is not None]


def _requests(requests: MailRequests) -> list[ConfigFault]:
    if requests.authserv_id and not _AUTHSERV_ID.fullmatch(requests.authserv_id):
        hint = 'write what the host puts first in Authentication-Results, such as "mx.example.org"'
        return [ConfigFault("requests.authserv_id", f'"{requests.authserv_id[:80]}" is not the name of a host', hint)]
    if requests.by_mail and not requests.authserv_id:
        hint = "write the name that your mail host puts first in Authentication-Results; without it anybody could ask for anybody"
        return [ConfigFault("requests.authserv_id", "missing", hint)]
    return []


def _url(key: str, text: str) -> ConfigFault | None:
    """https:// everywhere; http:// on loopback only, for tests and trials."""
    parts = urlsplit(text)
    if not parts.hostname or parts.username or parts.query or parts.fragment or parts.scheme not in {"https", "http"}:
        return ConfigFault(key, f'"{text[:80]}" is not a web address', 'write it as "https://certificates.example.org"')
    if parts.scheme == "http" and parts.hostname not in {"localhost", "127.0.0.1", "::1"}:
        return ConfigFault(key, "http would be unencrypted", "write https://; http is for localhost only")
    return None


def _recipients(recipients: tuple[str, ...]) -> list[ConfigFault]:
    if not recipients:
        return [ConfigFault("vault.recipients", "empty", "add a public key; `distributor init` creates a key pair")]
    return [
        ConfigFault(
            f"vault.recipients[{n}]", "not an age recipient", "write a key that starts with age1; `distributor init` creates a key pair"
        )
        for n, recipient in enumerate(recipients)
        if not _RECIPIENT.fullmatch(recipient)
    ]


def _limits(limits: Limits) -> list[ConfigFault]:
    return [
        ConfigFault(f"limits.{field.name}", f"{getattr(limits, field.name)} is not positive", "write more than 0, or remove the key")
        for field in fields(limits)
        if getattr(limits, field.name) <= 0
    ]


def _password(password: Password, channels: tuple[str, ...]) -> list[ConfigFault]:
    faults = []
    if password.channel not in channels:
        faults.append(ConfigFault("password.channel", f'unknown channel "{password.channel}"', f"use one of: {', '.join(channels)}"))
    if password.to not in set(PasswordTo):
        hint = f"use one of: {', '.join(PasswordTo)}; package and password must not meet in one mailbox"
        faults.append(ConfigFault("password.to", f'passwords are not sent to "{password.to[:80]}"', hint))
    if fault := passwords.check(password.recipe):
        faults.append(ConfigFault(f"password.{fault.key}", fault.reason, fault.hint))
    return faults
