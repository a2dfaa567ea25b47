"""Rosters, trackers and directories, and the app registrations behind them and the transport -> what `doctor` says of each.

Tables that share a registration are judged as one: what any of them needs is needed, and the line that opens a mailbox names all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from distributor import bootstrap
from distributor.config.tables import family_of
from distributor.errors import Error, ErrorGroup
from distributor.microsoft.permissions import ExcessPermission, GrantedPermissions, MailboxDenied, PermissionUse, excess_permissions, let_in
from distributor.microsoft.powershell import NAME, App
from distributor.microsoft.sign_in_remedies import remedy
from distributor.model.issues import Diagnostic

if TYPE_CHECKING:
    from distributor.config import Settings
    from distributor.config.schema import Table

AREAS = {"transports": "transport", "rosters": "roster", "trackers": "tracker", "directories": "directory"}


@dataclass(frozen=True, slots=True)
class Member:
    """A table that signs in with a registration. `who` is equal for those that share it; `shaped` an adapter's own settings."""

    table: Table
    shaped: Any
    who: Any
    use: PermissionUse

    @property
    def area(self) -> str:
        """What `doctor` calls its room."""
        return AREAS[family_of(self.table)]

    @property
    def app(self) -> App:
        """As far as the configuration tells it."""
        return App(self.shaped.tenant, self.shaped.client_id, service=self.shaped.graph)


class Registrations:
    """Whoever asks Graph, by registration. A sign-in that failed is told once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._members = [
            found for table in (settings.transport, *settings.rosters, *settings.trackers) if (found := _member(settings, table))
        ]
        self._seen: dict[Any, GrantedPermissions | Error] = {}
        self._judged: set[Any] = set()

    def transport(self, diagnostics: Sequence[Diagnostic]) -> Iterator[Diagnostic]:
        """The transport's own remarks, with what concerns its registration said anew."""
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
        """A roster or a tracker."""
        member = self._of(table)
        if member is None:
            return
        first = member.who not in self._seen
        if isinstance(seen := self._granted(member), Error):
            yield _failed(member, seen) if first else _not_looked_at(member)
            return
        opened = bootstrap.open_adapter(self._settings, family_of(table), table)
        yield from self._named(member, asyncio.run(opened.check()))
        yield from self._judge(member)

    def _of(self, table: Table) -> Member | None:
        return next((member for member in self._members if member.table is table), None)

    def _granted(self, member: Member) -> GrantedPermissions | Error:
        if member.who not in self._seen:
            try:
                from distributor.clients import granted_permissions

                look = granted_permissions.granted(member.shaped, member.shaped.graph, member.table.key)
                self._seen[member.who] = asyncio.run(look)
            except Error as error:
                self._seen[member.who] = error
        return self._seen[member.who]

    def _uses(self, member: Member) -> list[PermissionUse]:
        return [other.use for other in self._members if other.who == member.who]

    def _scope(self, member: Member) -> str:
        """A scope an app: the first registration's bears the plain name."""
        return NAME if member.who == self._members[0].who else f"{NAME}-{self._members.index(member)}"

    def _named(self, member: Member, diagnostics: Sequence[Diagnostic]) -> Iterator[Diagnostic]:
        seen = self._granted(member)
        for diagnostic in diagnostics:
            if isinstance(diagnostic, MailboxDenied) and isinstance(seen, GrantedPermissions):
                yield let_in(diagnostic, seen.app, self._uses(member), self._scope(member))
            elif not isinstance(diagnostic, ExcessPermission):
                yield diagnostic

    def _judge(self, member: Member) -> Iterator[Diagnostic]:
        """Of each registration once."""
        seen = self._granted(member)
        if member.who in self._judged or isinstance(seen, Error):
            return
        self._judged.add(member.who)
        yield from excess_permissions(member.area, seen, self._uses(member), self._scope(member))
        shown = ", ".join(sorted(seen.shown)) or "none"
        yield Diagnostic(member.area, "ok", f"permissions in the token for {seen.app.service.partition('://')[2]}: {shown}")


def _member(settings: Settings, table: Table) -> Member | None:
    """None for a table that does not ask Graph, and for one whose secrets cannot be opened, which its own look tells."""
    family = family_of(table)
    try:
        shaped = bootstrap.load_settings(settings, family, table)
    except Error:
        return None
    if not hasattr(shaped, "graph"):
        return None
    from distributor.clients import granted_permissions

    if family == "transports":
        boxes = [shaped.mailbox or str(settings.sender.address), *(other.username or str(other.address) for other in settings.senders)]
        return Member(table, shaped, granted_permissions.same(shaped), PermissionUse(table.key, granted_permissions.NEEDS, tuple(boxes)))
    box = getattr(shaped, "mailbox", "")
    needs = bootstrap.load_adapter(family, table.kind).needs(shaped)
    return Member(table, shaped, granted_permissions.same(shaped), PermissionUse(table.key, needs, (box,) if box else ()))


def _failed(member: Member, error: Error) -> Diagnostic:
    permissions = tuple(need.permission for need in member.use.needs)
    return Diagnostic(member.area, "error", str(error), remedy(str(error), error.hint, member.app, permissions))


def _not_looked_at(member: Member) -> Diagnostic:
    return Diagnostic(member.area, "warning", "not looked at, since the sign-in that it shares fails (above)")


def unopened(settings: Settings, error: Error) -> Iterator[Diagnostic]:
    """A transport that cannot be opened, such as one whose certificate has expired."""
    values = settings.transport.values
    oauth = values.get("oauth")
    names = oauth if isinstance(oauth, dict) else values
    app = App(str(names.get("tenant", "")), str(names.get("client_id", "")), service=str(values.get("graph", "")))
    for fault in error.faults if isinstance(error, ErrorGroup) else (error,):
        yield Diagnostic("transport", "error", str(fault), remedy(str(fault), fault.hint, app))


# --- rooms -----------------------------------------------------------------------------------------------------------


def rooms(settings: Settings, registrations: Registrations) -> Iterator[Diagnostic]:
    """Every roster, tracker and directory, each by its name in the configuration."""
    for table in (*settings.rosters, *settings.trackers, *settings.directories):
        for diagnostic in _guarded(settings, registrations, table):
            yield replace(diagnostic, message=f"{table.key} ({table.kind}): {diagnostic.message}")


def _guarded(settings: Settings, registrations: Registrations, table: Table) -> Iterator[Diagnostic]:
    area = AREAS[family_of(table)]
    try:
        shaped = bootstrap.load_settings(settings, family_of(table), table)
        if table.kind == "ldap":
            from distributor.adapters.directories import ldap_check

            yield from ldap_check.examine(shaped, table.key, area)
        else:
            yield from registrations.table(table)
    except Error as error:
        yield Diagnostic(area, "error", str(error), error.hint)
