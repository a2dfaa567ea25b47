"""Rosters, trackers and directories, and the app registrations behind them and the transport -> what `doctor` says of each.

Tables that share a registration are judged as one: what any of them needs is needed, and the line that opens a mailbox names all of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from distributor import bootstrap
from distributor.config.tables import room_of
from distributor.errors import Error, Several
from distributor.microsoft.permissions import Breadth, Granted, Shut, Use, breadth, let_in
from distributor.microsoft.powershell import NAME, App
from distributor.microsoft.sign_in_remedies import mend
from distributor.model.issues import Remark

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
    use: Use

    @property
    def area(self) -> str:
        """What `doctor` calls its room."""
        return AREAS[room_of(self.table)]

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
        self._seen: dict[Any, Granted | Error] = {}
        self._judged: set[Any] = set()

    def transport(self, remarks: Sequence[Remark]) -> Iterator[Remark]:
        """The transport's own remarks, with what concerns its registration said anew."""
        member = self._of(self._settings.transport)
        if member is None:
            yield from remarks
        elif remarks and remarks[0].level == "error":  # the sign-in
            self._seen[member.who] = Error(remarks[0].message)
            yield from remarks
        else:
            yield from remarks[:1]
            yield from self._judge(member)
            yield from self._named(member, remarks[1:])

    def table(self, table: Table) -> Iterator[Remark]:
        """A roster or a tracker."""
        member = self._of(table)
        if member is None:
            return
        first = member.who not in self._seen
        if isinstance(seen := self._granted(member), Error):
            yield _failed(member, seen) if first else _not_looked_at(member)
            return
        adapter = bootstrap.adapter(room_of(table), table.kind)
        opened = adapter.open(member.shaped, table.key) if room_of(table) == "rosters" else adapter.open(member.shaped)
        yield from self._named(member, asyncio.run(opened.check()))
        yield from self._judge(member)

    def _of(self, table: Table) -> Member | None:
        return next((member for member in self._members if member.table is table), None)

    def _granted(self, member: Member) -> Granted | Error:
        if member.who not in self._seen:
            try:
                from distributor.clients import granted_permissions

                look = granted_permissions.granted(member.shaped, member.shaped.graph, member.table.key)
                self._seen[member.who] = asyncio.run(look)
            except Error as error:
                self._seen[member.who] = error
        return self._seen[member.who]

    def _uses(self, member: Member) -> list[Use]:
        return [other.use for other in self._members if other.who == member.who]

    def _scope(self, member: Member) -> str:
        """A scope an app: the first registration's bears the plain name."""
        return NAME if member.who == self._members[0].who else f"{NAME}-{self._members.index(member)}"

    def _named(self, member: Member, remarks: Sequence[Remark]) -> Iterator[Remark]:
        seen = self._granted(member)
        for remark in remarks:
            if isinstance(remark, Shut) and isinstance(seen, Granted):
                yield let_in(remark, seen.app, self._uses(member), self._scope(member))
            elif not isinstance(remark, Breadth):
                yield remark

    def _judge(self, member: Member) -> Iterator[Remark]:
        """Of each registration once."""
        seen = self._granted(member)
        if member.who in self._judged or isinstance(seen, Error):
            return
        self._judged.add(member.who)
        yield from breadth(member.area, seen, self._uses(member), self._scope(member))
        shown = ", ".join(sorted(seen.shown)) or "none"
        yield Remark(member.area, "ok", f"permissions in the token for {seen.app.service.partition('://')[2]}: {shown}")


def _member(settings: Settings, table: Table) -> Member | None:
    """None for a table that does not ask Graph, and for one whose secrets cannot be opened, which its own look tells."""
    room = room_of(table)
    try:
        shaped = bootstrap.shaped(settings, room, table)
    except Error:
        return None
    if not hasattr(shaped, "graph"):
        return None
    from distributor.clients import granted_permissions

    if room == "transports":
        boxes = [shaped.mailbox or str(settings.sender.address), *(other.username or str(other.address) for other in settings.senders)]
        return Member(table, shaped, granted_permissions.same(shaped), Use(table.key, granted_permissions.NEEDS, tuple(boxes)))
    box = getattr(shaped, "mailbox", "")
    needs = bootstrap.adapter(room, table.kind).needs(shaped)
    return Member(table, shaped, granted_permissions.same(shaped), Use(table.key, needs, (box,) if box else ()))


def _failed(member: Member, error: Error) -> Remark:
    permissions = tuple(need.permission for need in member.use.needs)
    return Remark(member.area, "error", str(error), mend(str(error), error.hint, member.app, permissions))


def _not_looked_at(member: Member) -> Remark:
    return Remark(member.area, "warning", "not looked at, since the sign-in that it shares fails (above)")


def unopened(settings: Settings, error: Error) -> Iterator[Remark]:
    """A transport that cannot be opened, such as one whose certificate has expired."""
    values = settings.transport.values
    oauth = values.get("oauth")
    names = oauth if isinstance(oauth, dict) else values
    app = App(str(names.get("tenant", "")), str(names.get("client_id", "")), service=str(values.get("graph", "")))
    for fault in error.faults if isinstance(error, Several) else (error,):
        yield Remark("transport", "error", str(fault), mend(str(fault), fault.hint, app))


# --- rooms -----------------------------------------------------------------------------------------------------------


def rooms(settings: Settings, registrations: Registrations) -> Iterator[Remark]:
    """Every roster, tracker and directory, each by its name in the configuration."""
    for table in (*settings.rosters, *settings.trackers, *settings.directories):
        for remark in _guarded(settings, registrations, table):
            yield replace(remark, message=f"{table.key} ({table.kind}): {remark.message}")


def _guarded(settings: Settings, registrations: Registrations, table: Table) -> Iterator[Remark]:
    area = AREAS[room_of(table)]
    try:
        shaped = bootstrap.shaped(settings, room_of(table), table)
        if table.kind == "ldap":
            from distributor.adapters.directories import ldap_check

            yield from ldap_check.examine(shaped, table.key, area)
        else:
            yield from registrations.table(table)
    except Error as error:
        yield Remark(area, "error", str(error), error.hint)
