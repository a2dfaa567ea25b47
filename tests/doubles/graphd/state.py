"""Everything the double knows: tenants, apps, people, groups, mailboxes, what was sent, and what went wrong."""

from __future__ import annotations

import json
import os
import uuid
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.doubles.graphd.apps import App
from tests.doubles.graphd.clock import Clock
from tests.doubles.graphd.faults import Faults
from tests.doubles.graphd.intune_state import Intune
from tests.doubles.graphd.limits import Limits
from tests.doubles.graphd.mailbox import Mailbox
from tests.doubles.graphd.settings import DOMAINS, TENANT, Settings
from tests.doubles.graphd.tokens import TokenSigner

REMEMBERED = 100_000  # requests; a long run forgets its oldest


@dataclass
class Delivered:
    """The log of messages that left: one JSON line each, on the disk before the service answers; and their bytes."""

    log: Path
    messages: Path

    def __post_init__(self) -> None:
        self.messages.mkdir(parents=True, exist_ok=True)
        self._log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def keep(self, sha256: str, mime: bytes) -> None:
        (self.messages / f"{sha256}.eml").write_bytes(mime)

    def bytes_of(self, sha256: str) -> bytes:
        return (self.messages / f"{sha256}.eml").read_bytes()

    def write(self, record: dict[str, Any]) -> None:
        os.write(self._log, (json.dumps(record) + "\n").encode())
        os.fsync(self._log)


@dataclass
class Directory:
    """People and groups of the tenant, in the order in which they came."""

    users: dict[str, dict[str, Any]] = field(default_factory=dict)
    groups: dict[str, dict[str, Any]] = field(default_factory=dict)
    members: dict[str, list[str]] = field(default_factory=dict)  # of a group: ids of users and groups
    page_tokens: int = 0  # raised when those handed out so far expire
    _names: dict[str, str] = field(default_factory=dict)

    def add_user(self, properties: dict[str, Any]) -> str:
        user = {"id": str(uuid.uuid4()), "accountEnabled": True, "userType": "Member", "proxyAddresses": [], "otherMails": []}
        mail = properties.get("mail")
        user |= {"userPrincipalName": mail, "displayName": mail, "proxyAddresses": [f"SMTP:{mail}"] if mail else []} | properties
        self.users[user["id"]] = user
        for name in (user["id"], user["userPrincipalName"]):
            if name:
                self._names[name.casefold()] = user["id"]
        return str(user["id"])

    def user(self, given: str) -> dict[str, Any] | None:
        """By id or userPrincipalName, never by another address."""
        return self.users.get(self._names.get(given.casefold(), ""))

    def add_group(self, properties: dict[str, Any], members: list[str]) -> str:
        group = {"id": str(uuid.uuid4()), "description": None, "groupTypes": [], "mail": None, "mailEnabled": False}
        nickname = str(properties.get("displayName", "group")).replace(" ", "")
        group |= {"securityEnabled": True, "mailNickname": nickname} | properties
        self.groups[group["id"]] = group
        self.members[group["id"]] = [self._names.get(one.casefold(), one) for one in members]
        return str(group["id"])

    def users_of(self, group: str, *, deep: bool) -> list[dict[str, Any]]:
        """Each once, however many groups it is in."""
        found: dict[str, dict[str, Any]] = {}
        seen, todo = {group}, [group]
        while todo:
            for member in self.members[todo.pop(0)]:
                if member in self.users:
                    found.setdefault(member, self.users[member])
                elif deep and member in self.groups and member not in seen:
                    seen.add(member)
                    todo.append(member)
        return list(found.values())


@dataclass
class ServiceState:
    delivered: Delivered
    signer: TokenSigner
    login: str = ""  # roots, known when the ports are
    graph: str = ""
    clock: Clock = field(default_factory=Clock)
    settings: Settings = field(default_factory=Settings)
    faults: Faults = field(default_factory=Faults)
    directory: Directory = field(default_factory=Directory)
    tenants: dict[str, tuple[str, ...]] = field(default_factory=lambda: {TENANT: DOMAINS})
    apps: dict[str, App] = field(default_factory=dict)
    mailboxes: dict[str, Mailbox] = field(default_factory=dict)  # by the user's id
    addresses: dict[str, Mailbox] = field(default_factory=dict)  # the same by address
    properties: dict[str, frozenset[str]] = field(default_factory=dict)  # of each resource, for $select
    traces: list[dict[str, Any]] = field(default_factory=list)
    fates: dict[str, str] = field(default_factory=dict)  # what the trace will say of messages to an address
    live_tokens: set[str] = field(default_factory=set)
    requests: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    refusals: list[str] = field(default_factory=list)  # requests that break the description: a client's fault
    intune: Intune = field(default_factory=Intune)
    violations: list[str] = field(default_factory=list)  # answers that break it: ours

    def __post_init__(self) -> None:
        self.limits = Limits(self.clock, self.settings)

    def tenant(self, given: str) -> str | None:
        """The id behind an id or a domain."""
        for tenant, domains in self.tenants.items():
            if given.casefold() in {tenant, *domains}:
                return tenant
        return None

    def mailbox(self, given: str) -> Mailbox | None:
        """By its person's id or UPN; what is due has moved by the time it is seen."""
        user = self.directory.user(given)
        found = self.mailboxes.get(user["id"]) if user else None
        if found is not None:
            found.settle(self.clock.now(), same_id=self.settings.id_after_send == "same")
        return found

    def add_mailbox(self, address: str, send_as: list[str], properties: dict[str, Any]) -> str:
        user = self.directory.user(str(properties.get("userPrincipalName", address)))
        owner = user["id"] if user else self.directory.add_user({"mail": address, **properties})
        name = str(self.directory.users[owner]["displayName"])
        made = Mailbox(address.lower(), owner, name, tuple(one.lower() for one in send_as))
        self.mailboxes[owner] = self.addresses[made.address] = made
        return str(owner)

    def token(self, app: App, audience: str, *, seconds: float | None = None, **claims: object) -> str:
        """An access token, alive until it expires or all are revoked."""
        uti = uuid.uuid4().hex
        self.live_tokens.add(uti)
        self.limits.tokens_issued += 1
        identity = {"appid": app.id, "app_displayname": app.name, "tid": app.tenant, "iss": f"{self.login}/{app.tenant}/", "uti": uti}
        lasts = self.settings.token_seconds if seconds is None else seconds
        return self.signer.access_token(audience, self.clock.now(), lasts, **identity, **claims)
