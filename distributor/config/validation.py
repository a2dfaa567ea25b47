"""Checks the values of tables whose types are right."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from distributor.config.converter import ConfigFault
from distributor.config.schema import Organisation, Password, Sender, SenderMailbox, VaultKeys
from distributor.config.tables import AdapterKinds
from distributor.model import passwords
from distributor.model.certificates import Limits

_LANGUAGE = re.compile(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_RECIPIENT = re.compile(r"age1[02-9ac-hj-np-z]{58,}")


def validate(own: Mapping[str, Any], kinds: AdapterKinds) -> list[ConfigFault]:
    """The faults of values whose types are right. `own`: the tables that belong to no adapter."""
    faults: list[ConfigFault] = []
    match own.get("organisation"):
        case Organisation(languages=languages):
            faults += _languages(languages)
    match own.get("vault"):
        case VaultKeys(recipients=recipients):
            faults += _recipients(recipients)
    match own.get("limits"):
        case Limits() as limits:
            faults += _limits(limits)
    match own.get("password", Password()):
        case Password() as password:
            faults += _password(password, kinds.kinds("channels"))
    return faults + _senders(own.get("sender"), own.get("senders", ()))


def _senders(first: Sender | None, others: tuple[SenderMailbox, ...]) -> list[ConfigFault]:
    """Each mailbox has one rate limit and one quota, so it may be listed only once."""
    keys = Counter([first.address.key] if first else [])
    faults = []
    for number, other in enumerate(others):
        if keys[other.address.key]:
            message = f'"{other.address}" is named twice'
            faults.append(ConfigFault(f"senders[{number}].address", message, "each mailbox once; [sender] is one already"))
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


def _recipients(recipients: tuple[str, ...]) -> list[ConfigFault]:
    if not recipients:
        return [ConfigFault("vault.recipients", "empty", "without a recipient no password can be kept; `distributor init` makes a pair")]
    return [
        ConfigFault(f"vault.recipients[{n}]", "not an age recipient", "it begins with age1; `distributor init` makes a pair")
        for n, recipient in enumerate(recipients)
        if not _RECIPIENT.fullmatch(recipient)
    ]


def _limits(limits: Limits) -> list[ConfigFault]:
    return [
        ConfigFault(f"limits.{field.name}", f"{getattr(limits, field.name)} lets nothing in", "write more than 0, or remove the key")
        for field in fields(limits)
        if getattr(limits, field.name) <= 0
    ]


def _password(password: Password, channels: tuple[str, ...]) -> list[ConfigFault]:
    faults = []
    if password.channel not in channels:
        faults.append(
            ConfigFault("password.channel", f'this version has no channel "{password.channel}"', f"there is: {', '.join(channels)}")
        )
    if fault := passwords.check(password.recipe):
        faults.append(ConfigFault(f"password.{fault.key}", fault.reason, fault.hint))
    return faults
