"""`doctor`'s checks of rosters, trackers and directories, and of the app registrations that they and the transport sign in with.

Tables that share a registration are judged together: the app needs what any of them needs, and the command that gives it access to
mailboxes names all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, cast

from distributor import bootstrap
from distributor.config.schema import family_of
from distributor.errors import Error, ErrorGroup
from distributor.microsoft.permissions import (
    ExcessPermission,
    GrantedPermissions,
    MailboxDenied,
    PermissionUse,
    excess_permissions,
    let_in,
    remedy,
)
from distributor.microsoft.powershell import NAME, App
from distributor.model.issues import Diagnostic

if TYPE_CHECKING:
    from distributor.bootstrap import AdapterModule
    from distributor.clients.app_registration import AppRegistration
    from distributor.config import Settings
    from distributor.config.schema import Table
    from distributor.microsoft.permissions import RequiredPermission

    class _GraphAdapter(Protocol):  # a roster or tracker that asks Microsoft Graph
        async def check(self) -> list[Diagnostic]: ...

    class _GraphModule(AdapterModule[_GraphAdapter], Protocol):
        def needs(self, settings: AppRegistration, /) -> tuple[RequiredPermission, ...]: ...


AREAS = {"transports": "transport", "intune": "intune", "rosters": "roster", "trackers": "tracker", "directories": "directory"}


@dataclass(frozen=True, slots=True)
class Member:
    """A table that signs in to Graph. `who` is equal for tables that share a registration."""

    table: Table
    settings: Any  # the adapter's own
    who: AppRegistration
    use: PermissionUse

    @property
    def area(self) -> str:
        """The area of its diagnostics."""
        return AREAS[family_of(self.table)]

    @property
    def app(self) -> App:
        """The app, for commands in hints."""
        return App(self.settings.tenant, self.settings.client_id, service=self.settings.graph)


class Registrations:
    """The tables that ask Graph, by app registration. A failed sign-in is reported once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._members = [
            found
            for table in (settings.transport, *settings.rosters, *settings.trackers, *intune(settings))
            if (found := _member(settings, table))
        ]
        self._seen: dict[AppRegistration, GrantedPermissions | Error] = {}
        self._judged: set[AppRegistration] = set()

    def transport(self, diagnostics: Sequence[Diagnostic]) -> Iterator[Diagnostic]:
        """The transport's own diagnostics; those about permissions are replaced by those of the whole registration."""
        member = self._of(self._settings.transport)
        if member is None:
            yield from diagnostics
        elif diagnostics and diagnostics[0].level == "error":  # the sign-in
            self._seen[member.who] = Error(diagnostics[0].message)
            yield from diagnostics
        else:
            yield from diagnostics[:1]
            yield from self._judge(member)
            yield from self._named(member, diagnostics[1:])

    def table(self, table: Table) -> Iterator[Diagnostic]:
        """The diagnostics of a roster or tracker that asks Graph."""
        member = self._of(table)
        if member is None:
            return
        first = member.who not in self._seen
        if isinstance(seen := self._granted(member), Error):
            yield _failed(member, seen) if first else _not_checked(member)
            return
        opened = bootstrap.open_adapter(self._settings, family_of(table), table)
        yield from self._named(member, asyncio.run(opened.check()))
        yield from self._judge(member)

    def _of(self, table: Table) -> Member | None:
        return next((member for member in self._members if member.table is table), None)

    def _granted(self, member: Member) -> GrantedPermissions | Error:
        if member.who not in self._seen:
            try:
                from distributor.clients.entra import fetch_granted

                self._seen[member.who] = asyncio.run(fetch_granted(member.settings, member.settings.graph, member.table.key))
            except Error as error:
                self._seen[member.who] = error
        return self._seen[member.who]

    def _uses(self, member: Member) -> list[PermissionUse]:
        return [other.use for other in self._members if other.who == member.who]

    def _scope(self, member: Member) -> str:
        """The name of the management scope of this app; the first registration's has no number."""
        return NAME if member.who == self._members[0].who else f"{NAME}-{self._members.index(member)}"

    def _named(self, member: Member, diagnostics: Sequence[Diagnostic]) -> Iterator[Diagnostic]:
        seen = self._granted(member)
        for diagnostic in diagnostics:
            if isinstance(diagnostic, MailboxDenied) and isinstance(seen, GrantedPermissions):
                yield let_in(diagnostic, seen.app, self._uses(member), self._scope(member))
            elif not isinstance(diagnostic, ExcessPermission):
                yield diagnostic

    def _judge(self, member: Member) -> Iterator[Diagnostic]:
        """Excess permissions, and what the token shows, once for each registration."""
        seen = self._granted(member)
        if member.who in self._judged or isinstance(seen, Error):
            return
        self._judged.add(member.who)
        yield from excess_permissions(member.area, seen, self._uses(member), self._scope(member))
        shown = ", ".join(sorted(seen.shown)) or "none"
        yield Diagnostic(member.area, "ok", f"permissions in the token for {seen.app.service.partition('://')[2]}: {shown}")


def _member(settings: Settings, table: Table) -> Member | None:
    """None for a table that does not ask Graph, and for one whose secrets cannot be resolved, which its own check reports."""
    family = family_of(table)
    try:
        own = bootstrap.load_settings(settings, family, table)
    except Error:
        return None
    if not hasattr(own, "graph"):
        return None
    from distributor.clients.app_registration import registration

    box = getattr(own, "mailbox", "")
    boxes = [box] if box else []
    if family == "transports":
        boxes = [box or str(settings.sender.address), *(other.username or str(other.address) for other in settings.senders)]
    module = cast("_GraphModule", bootstrap.load_adapter(family, table.kind))
    return Member(table, own, registration(own), PermissionUse(table.key, module.needs(own), tuple(boxes)))


def _failed(member: Member, error: Error) -> Diagnostic:
    permissions = tuple(need.permission for need in member.use.needs)
    return Diagnostic(member.area, "error", str(error), remedy(str(error), error.hint, member.app, permissions))


def _not_checked(member: Member) -> Diagnostic:
    return Diagnostic(member.area, "warning", "not checked: the sign-in it shares failed (see above)")


def transport_not_opened(settings: Settings, error: Error) -> Iterator[Diagnostic]:
    """The diagnostics of a transport that cannot be opened, such as one whose certificate has expired."""
    values = settings.transport.values
    oauth = values.get("oauth")
    names = oauth if isinstance(oauth, dict) else values
    app = App(str(names.get("tenant", "")), str(names.get("client_id", "")), service=str(values.get("graph", "")))
    for fault in error.faults if isinstance(error, ErrorGroup) else (error,):
        yield Diagnostic("transport", "error", str(fault), remedy(str(fault), fault.hint, app))


# --- every table but the transport's -----------------------------------------------------------------------------------


def check_tables(settings: Settings, registrations: Registrations) -> Iterator[Diagnostic]:
    """The diagnostics of every roster, tracker and directory, each with its key in the configuration."""
    for table in (*settings.rosters, *settings.trackers, *settings.directories):
        for diagnostic in _guarded(settings, registrations, table):
            yield replace(diagnostic, message=f"{table.key} ({table.kind}): {diagnostic.message}")
    for table in intune(settings):
        yield from _guarded(settings, registrations, table)
        if "connector" in table.values:
            yield from _connector(settings)


def _connector(settings: Settings) -> Iterator[Diagnostic]:
    from distributor.bootstrap.intune import check_connector

    try:
        yield from check_connector(settings)
    except Error as error:
        yield Diagnostic("intune", "error", str(error), error.hint)


def intune(settings: Settings) -> tuple[Table, ...]:
    """The table [intune], where there is one."""
    return () if settings.intune is None else (settings.intune,)


def _guarded(settings: Settings, registrations: Registrations, table: Table) -> Iterator[Diagnostic]:
    area = AREAS[family_of(table)]
    try:
        own = bootstrap.load_settings(settings, family_of(table), table)
        if table.kind == "ldap":
            from distributor.adapters.directories import ldap

            yield from ldap.check_directory(own, table.key, area)
        elif table.kind == "imap":
            yield from asyncio.run(bootstrap.open_adapter(settings, family_of(table), table).check())
        else:
            yield from registrations.table(table)
    except Error as error:
        yield Diagnostic(area, "error", str(error), error.hint)
