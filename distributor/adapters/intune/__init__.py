"""Microsoft Intune: imports packages for its certificate connector, which installs them on a person's enrolled devices.

A record is a user with a certificate, and its id is made of both. So a request that is made twice changes one record, and what is unclear
may be done again. The intent is recorded in the ledger before a record is written, as before a message is sent (facts: intune.md 4).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from distributor.adapters.intune.policies import IntunePolicies
from distributor.adapters.intune.records import IntuneRecords, Record
from distributor.adapters.intune.session import ImportSession
from distributor.clients.app_registration import AppRegistration, Tell, registration
from distributor.clients.entra import check, granted
from distributor.clients.graph import IN_FLIGHT, ROOT, HttpResponse, graph
from distributor.clients.http import MAX_WAIT
from distributor.clients.throttle import Sleep
from distributor.errors import Error, InvalidInput
from distributor.microsoft import outlook
from distributor.microsoft.intune_policies import AndroidKind, Platform, Purpose
from distributor.microsoft.permissions import (
    IMPORT_PFX,
    MANAGE_APPS,
    READ_GROUPS,
    READ_PEOPLE,
    RequiredPermission,
    lacking,
    missing,
    remedy,
)
from distributor.microsoft.pfx_import import ConnectorKey, Padding
from distributor.microsoft.powershell import App
from distributor.model.attempts import OutboundMessage, Outcome, TrackedMessage, TrackingEvent
from distributor.model.issues import Diagnostic
from distributor.model.people import escape_unsafe
from distributor.model.ports import CommitIntent
from distributor.model.states import State

SILENT = timedelta(days=1)  # a connector asks every hour
SIGN_IN = timedelta(minutes=5)  # for signing in twice at most, in addition to the time-outs of the requests
_REQUESTS = 8  # the most that one import makes
_KEY_HINT = "write the name that Add-IntuneKspKey was given on the connector (see docs/intune.md#the-connectors-key)"


@dataclass(frozen=True)
class Connector:
    """`[intune.connector]`: the public key that Export-IntunePublicKey wrote, and the key's name on the connector's machine."""

    public_key: Path
    key_name: str
    provider: str = "Microsoft Software Key Storage Provider"
    padding: Padding = Padding.SHA512

    @property
    def key(self) -> ConnectorKey:
        """As records name it."""
        return ConnectorKey(self.provider, self.key_name, self.padding)


@dataclass(frozen=True)
class OutlookChoices:
    """`[intune.outlook]`: as the options of `intune settings`; exports of policies whose undocumented keys are passed through."""

    sign_all: bool = False
    encrypt_all: bool = False
    users_may_change: bool = True
    ldap: str | None = None
    deploy_certificates: bool = False  # the key CertsFromIntune, which the portal calls "Deploy S/MIME certificates from Intune"
    ios_export: Path | None = None
    android_export: Path | None = None


@dataclass(frozen=True)
class ScepServer:
    """`[intune.profiles.scep]`: a SCEP server; subject and names may have Intune's variables."""

    urls: tuple[str, ...]
    subject: str = "CN={{UserName}},E={{EmailAddress}}"
    key_size: int = 2048
    years: int = 1
    purposes: tuple[Purpose, ...] = (Purpose.SIGNING,)


@dataclass(frozen=True)
class Profiles:
    """`[intune.profiles]`: trusted roots, and how devices get certificates."""

    roots: tuple[Path, ...] = ()
    imported: tuple[Purpose, ...] = ()
    derived: bool = False
    scep: ScepServer | None = None
    android: tuple[AndroidKind, ...] = (AndroidKind.FULLY_MANAGED, AndroidKind.WORK_PROFILE)


@dataclass(frozen=True)
class Settings(AppRegistration):
    """`[intune]`: the keys of the registration, and these."""

    graph: str = ROOT
    connections: int = IN_FLIGHT
    reply_timeout: float = 100.0  # seconds
    connector: Connector | None = None
    name: str = "distributor"  # what the names of all policies begin with
    groups: tuple[str, ...] = ()  # object ids or names of the Entra groups that policies are assigned to
    platforms: tuple[Platform, ...] = (Platform.IOS, Platform.ANDROID)
    outlook: OutlookChoices | None = None
    profiles: Profiles | None = None
    verify_seconds: float = field(default=30.0)  # for which a new record is looked for until it can be read


def open(settings: Settings, key: str = "intune", *, tell: Tell | None = None, sleep: Sleep = asyncio.sleep) -> IntuneTransport:  # noqa: A001  every adapter has this name
    """The transport of imports; connects for its first one. Raises InvalidInput."""
    if wrong := check(registration(settings), key):
        raise wrong
    if not 1 <= settings.connections <= 20:  # noqa: PLR2004  Intune takes 200 writes in 20 s
        raise InvalidInput(f"{settings.connections} is out of range", where=f"{key}.connections", hint="write 1 to 20")
    _check_policies(settings, key)
    for name in ("key_name", "provider"):
        if settings.connector is not None and not getattr(settings.connector, name).strip():
            raise InvalidInput("empty", where=f"{key}.connector.{name}", hint=_KEY_HINT)
    return IntuneTransport(settings, IntuneRecords(graph(registration(settings), settings.graph, key=key, tell=tell, sleep=sleep)), sleep)


def _check_policies(settings: Settings, key: str) -> None:
    """Raise InvalidInput for choices that Intune does not have."""
    if settings.outlook is not None and settings.outlook.ldap is not None:
        try:
            outlook.host(settings.outlook.ldap)
        except outlook.BadHost as fault:
            raise InvalidInput(str(fault), where=f"{key}.outlook.ldap", hint="write HOST, HOST:PORT or ldaps://HOST[:PORT]") from None
    scep = settings.profiles.scep if settings.profiles is not None else None
    if scep is not None and scep.key_size not in {2048, 4096}:
        raise InvalidInput(
            f"{scep.key_size} is not a size that Intune has", where=f"{key}.profiles.scep.key_size", hint="write 2048 or 4096"
        )
    if scep is not None and settings.profiles is not None and not settings.profiles.roots:
        hint = "name the root of the SCEP server's CA; Intune binds a SCEP profile to a trusted root"
        raise InvalidInput("missing", where=f"{key}.profiles.roots", hint=hint)
    if settings.platforms == () or settings.name.strip() == "":
        raise InvalidInput("empty", where=f"{key}.platforms" if settings.name.strip() else f"{key}.name", hint="remove the key")


def needs(settings: Settings) -> tuple[RequiredPermission, ...]:
    """The permissions that it needs."""
    importing = (IMPORT_PFX, READ_PEOPLE) if settings.connector is not None else ()
    profiles = (IMPORT_PFX,) if settings.profiles is not None else ()  # the same permission
    apps = (MANAGE_APPS,) if settings.outlook is not None else ()
    return tuple(dict.fromkeys((*importing, *profiles, *apps, *((READ_GROUPS,) if settings.groups else ()))))


class IntuneTransport:
    """Writes records for people, each read back."""

    per_minute: float | None = None
    daily: int | None = None

    def __init__(self, settings: Settings, records: IntuneRecords, sleep: Sleep) -> None:
        self.max_connections = settings.connections
        self.attempt_timeout = _REQUESTS * timedelta(seconds=settings.reply_timeout) + SIGN_IN + MAX_WAIT
        self._settings, self._records, self._sleep = settings, records, sleep
        records.timeout = settings.reply_timeout

    def policies(self) -> IntunePolicies:
        """The tenant's policies, over the same connections."""
        return IntunePolicies(self._records.graph, self._sleep, self._settings.reply_timeout)

    def connection(self, sender: str | None = None) -> IntuneConnection:  # noqa: ARG002  an import has none
        """A connection; all share the HTTP connections."""
        return IntuneConnection(ImportSession(self._records, self._sleep, self._settings.verify_seconds))

    def tracker(self) -> RecordTracker:
        """Looks records up whose import was interrupted."""
        return RecordTracker(self._records)

    async def finish(self, *, settled: bool = True) -> list[Diagnostic]:  # noqa: ARG002  there is nothing to clean up
        """Close the connections."""
        await self._records.close()
        return []

    async def check(self) -> list[Diagnostic]:
        """Whether the app may read users and write records; writes nothing."""
        who, needed, root = registration(self._settings), needs(self._settings), self._settings.graph
        app, names = App(who.tenant, who.client_id, service=root), tuple(need.permission for need in needed)
        try:
            seen = granted(await self._records.graph.token(), who, root)
            if absent := missing(seen, needed):
                return [lacking("intune", seen, absent)]
            response = await self._records.probe()
            connectors = await self._records.connectors() if isinstance(response, HttpResponse) and response.good else []
        except Error as error:
            return [Diagnostic("intune", "error", str(error), remedy(str(error), error.hint, app, names))]
        finally:
            await self._records.close()
        if isinstance(response, HttpResponse) and response.good:
            readable = Diagnostic("intune", "ok", f"{self._records.graph.where}: imported certificates can be read")
            return [readable, *connector_checks(connectors, datetime.now(UTC))] if self._settings.connector is not None else [readable]
        failed = self._records.error(response)
        return [Diagnostic("intune", "error", str(failed), failed.hint)]


def connector_checks(found: Sequence[Mapping[str, Any]], now: datetime) -> Iterator[Diagnostic]:
    """Whether the tenant has certificate connectors, and whether each has asked for work lately."""
    if not found:
        hint = "install the certificate connector with PKCS imported certificates (see docs/intune.md#before-you-start)"
        yield Diagnostic("intune", "warning", "the tenant has no certificate connector, so imported certificates reach no device", hint)
    for one in found:
        name = escape_unsafe(str(one.get("connectorName") or one.get("machineName") or one.get("id")))
        try:
            seen = datetime.fromisoformat(str(one.get("lastCheckinDateTime")))
        except ValueError:
            continue
        if now - seen > SILENT:
            hint = "check that the service runs on that machine, and that it can reach the internet"
            yield Diagnostic(
                "intune", "warning", f'the certificate connector "{name}" last asked for work on {seen:%Y-%m-%d %H:%M} UTC', hint
            )


class IntuneConnection:
    """Imports one package at a time."""

    def __init__(self, session: ImportSession) -> None:
        self._session = session

    async def deliver(self, message: OutboundMessage, record_intent: CommitIntent) -> Outcome:
        """Import one package; see model.ports.Connection."""
        return await self._session.deliver(message, record_intent)

    async def close(self) -> None:
        """Nothing: the HTTP connections are closed at the end of the run."""


class RecordTracker:
    """Looks up whether an interrupted import was done: by the record's id, which the intent has recorded."""

    min_age = timedelta()

    def __init__(self, records: IntuneRecords) -> None:
        self._records = records

    async def track(self, sought: Sequence[TrackedMessage]) -> AsyncIterator[TrackingEvent]:
        """A record that was written since the attempt proves the import; where it is older or missing, the import is made again."""
        for one in sought:
            if one.state is not State.AMBIGUOUS or one.draft is None:
                continue
            found = await self._records.read_with_retries(one.draft)
            evidence = {"kind": "intune", "id": one.draft}
            if isinstance(found, Record) and found.changed_at >= one.since:
                words = f"found in Intune, written at {found.changed_at:%Y-%m-%d %H:%M:%S} UTC"
                yield TrackingEvent(one.delivery, State.ACCEPTED, words, {**evidence, "changed_at": found.changed_at.isoformat()})
            elif isinstance(found, Record) or found is None:
                yield TrackingEvent(one.delivery, State.QUEUED, "not written in Intune since the attempt; it is imported again", evidence)
            else:
                raise self._records.error(found)

    async def close(self) -> None:
        """Close the connections."""
        await self._records.close()
