"""Reads people from Entra (all users, those of a group or of a filter) through Microsoft Graph; keeps one page in memory.

The address is the primary one, `SMTP:` among a user's proxyAddresses, else `mail` (facts: sending.md 2). Disabled users are entries, but
not people: nothing is planned for them, and a certificate of theirs is an issue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from distributor.clients import graph as client
from distributor.clients.app_registration import AppRegistration, registration
from distributor.clients.entra import check, granted
from distributor.clients.http import REACH
from distributor.errors import Error, InvalidInput, ServiceUnavailable
from distributor.microsoft import directory_user
from distributor.microsoft.permissions import READ_GROUPS, READ_PEOPLE, RequiredPermission, lacking, missing, remedy
from distributor.microsoft.powershell import App
from distributor.model.issues import CheckId, Diagnostic, Issue, Severity
from distributor.model.people import Address, DirectoryUser, Person, escape_unsafe, in_use, with_primary

PAGE = 999  # users; the most that Graph gives
LOOKUP = 60.0  # seconds, for one address; `send --follow` does nothing else meanwhile
NAMED = 3  # users without an address who are named in the note
ADVANCED = {"ConsistencyLevel": "eventual"}  # with $count; most filters, and the users in a group, need it
_PERMIT = "give the app the permission User.Read.All and grant admin consent (see docs/exchange-online.md#people-from-the-directory)"
_HINTS = {
    "400": "correct `filter` in [[rosters]]: a $filter of OData for users, such as \"department eq 'Sales'\"",
    "404": "correct `group` in [[rosters]]: the object ID of a group, as Entra shows it under Groups",
}


@dataclass(frozen=True)
class Settings(AppRegistration):
    """`[[rosters]]` of kind graph. Without group and filter, everybody in the directory."""

    graph: str = client.ROOT
    group: str | None = None  # its object ID; members of its groups count too
    filter: str | None = None  # $filter of OData; combines with `group`
    guests: bool = False  # include people of other organisations


def open(settings: Settings, key: str) -> GraphRoster:  # noqa: A001  every adapter has this name
    """The roster; connects when it is read. `key` names its table. Raises InvalidInput for settings that cannot work."""
    sign_in = registration(settings)
    if (fault := check(sign_in, key)) is not None:
        raise fault
    if settings.group is not None and settings.group.strip() in {"", ".", ".."}:
        raise InvalidInput("not a group ID", where=f"{key}.group", hint="write the group's object ID, or remove the key")
    if settings.filter is not None and not settings.filter.strip():
        raise InvalidInput("empty", where=f"{key}.filter", hint="write a filter, or remove the key to include everyone")
    return GraphRoster(client.graph(sign_in, settings.graph, key=key), settings)


def needs(settings: Settings) -> tuple[RequiredPermission, ...]:
    """The permissions that it needs."""
    return (READ_PEOPLE,) if settings.group is None else (READ_PEOPLE, READ_GROUPS)


class GraphRoster:
    """People in a directory."""

    def __init__(self, asked: client.GraphClient, settings: Settings) -> None:
        self._client = asked
        self._settings = settings
        self.is_full_directory = settings.group is None and settings.filter is None

    def people(self) -> Iterator[Person | Issue]:
        """Everybody with an enabled account and an address, or the issue of a bad address. Raises ServiceUnavailable."""
        return in_use(self.entries())

    def find(self, address: Address) -> DirectoryUser | None:
        """The user with this primary address, among those of the group and the filter. Raises ServiceUnavailable."""
        with asyncio.Runner() as runner:
            return runner.run(self._find(address))

    async def _find(self, address: Address) -> DirectoryUser | None:
        mail = client.odata_literal(str(address))
        try:
            async with asyncio.timeout(LOOKUP):
                for wanted in (f"proxyAddresses/any(p:p eq {client.odata_literal(f'smtp:{address}')})", f"mail eq {mail}"):
                    path, params, headers = _question(self._settings, wanted)
                    listed = self._client.pages(path, params=params, headers=headers)
                    users = [_readable(user, self._client.where) async for user in listed]
                    included = [user for user in users if self._settings.guests or not directory_user.is_guest(user)]
                    if (found := with_primary(address, map(directory_user.to_directory_user, included))) is not None:
                        return found
        except TimeoutError:
            raise ServiceUnavailable(f"no answer in {LOOKUP:.0f} s", where=self._client.where, hint=REACH) from None
        except ServiceUnavailable as error:
            raise _explained(error) from error
        finally:
            await self._client.close()
        return None

    def entries(self) -> Iterator[DirectoryUser | Issue]:
        """Every user with an address, disabled ones too; one note about those without an address comes last. Raises ServiceUnavailable."""
        without: list[str] = []
        for user in self._users():
            if (entry := directory_user.to_directory_user(user)) is not None:
                yield entry
            elif user.get("accountEnabled") and not directory_user.has_address(user):
                without.append(directory_user.name(user))
        if without:
            yield _left_out(without)

    async def address_of(self, object_id: str) -> str | None:
        """The address of an enabled user; None where there is no such user, or none with an address. Raises ServiceUnavailable."""
        try:
            path = f"users/{client.path_segment(object_id)}"
            response = await self._client.call("GET", path, params={"$select": ",".join(directory_user.FIELDS)})
        finally:
            await self._client.close()
        if isinstance(response, client.HttpResponse) and response.status == 404:  # noqa: PLR2004
            return None
        if not isinstance(response, client.HttpResponse) or not response.good:
            raise _explained(client.service_error(response, self._client.where))
        user = response.body or {}
        if str(user.get("id", "")).casefold() != object_id.casefold():  # Graph finds users by sign-in name too
            return None
        if directory_user.is_guest(user) and not self._settings.guests:  # the organisation that invites a guest does not own the address
            return None
        entry = directory_user.to_directory_user(user)
        return str(entry.person.address) if isinstance(entry, DirectoryUser) and entry.enabled else None

    async def check(self) -> list[Diagnostic]:
        """Whether its people can be read: by the token, then by the service itself."""
        who, needed = registration(self._settings), needs(self._settings)
        path, params, headers = _question(self._settings)
        try:
            seen = granted(await self._client.token(), who, self._client.root)
            if names := missing(seen, needed):
                return [lacking("roster", seen, names)]
            response = await self._client.call("GET", path, params={**params, "$top": "1"}, headers=headers)
        except Error as error:
            app, permissions = App(who.tenant, who.client_id, service=self._client.root), tuple(need.permission for need in needed)
            return [Diagnostic("roster", "error", str(error), remedy(str(error), error.hint, app, permissions))]
        finally:
            await self._client.close()
        return [_answer(response, self._client.where)]

    def _users(self) -> Iterator[Mapping[str, Any]]:
        """Raises ServiceUnavailable where Graph silently leaves out properties that the app may not read."""
        shown: bool | None = None  # whether `accountEnabled` is there for any user
        for user in self._listed():
            _refuse_unnamed(user, self._client.where)
            shown = bool(shown) or user.get("accountEnabled") is not None
            if self._settings.guests or not directory_user.is_guest(user):
                yield user
        if shown is False:
            raise _hidden(self._client.where)

    def _listed(self) -> Iterator[Mapping[str, Any]]:
        """The users page by page, in an event loop of its own, for planning runs in none."""
        path, params, headers = _question(self._settings)
        with asyncio.Runner() as runner:
            try:
                users = self._client.pages(path, params=params, headers=headers)
                while page := runner.run(_some(users)):
                    yield from page
            except ServiceUnavailable as error:
                raise _explained(error) from error
            finally:
                runner.run(self._client.close())


def _answer(response: client.HttpResponse | client.NoResponse, where: str) -> Diagnostic:
    """One user proves that they can be read; none is a warning, since nothing would be planned."""
    if not isinstance(response, client.HttpResponse) or not response.good:
        stop = _explained(client.service_error(response, where))
        return Diagnostic("roster", "error", str(stop), stop.hint)
    if not (response.body or {}).get("value"):
        return Diagnostic(
            "roster", "warning", f"{where}: no users found", "correct `group` or `filter` in [[rosters]], or add people to it"
        )
    return Diagnostic("roster", "ok", f"{where}: users can be read")


def _refuse_unnamed(user: Mapping[str, Any], where: str) -> None:
    if user.get("userPrincipalName") is None:
        raise ServiceUnavailable("the app is not allowed to read users", where=where, hint=_PERMIT)


def _hidden(where: str) -> ServiceUnavailable:
    return ServiceUnavailable("the app is not allowed to see which accounts are disabled", where=where, hint=_PERMIT)


def _readable(user: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """The user, unless Graph leaves out what the app may not read: a hidden `accountEnabled` is not a disabled account."""
    _refuse_unnamed(user, where)
    if user.get("accountEnabled") is None:
        raise _hidden(where)
    return user


def _question(settings: Settings, wanted: str | None = None) -> tuple[str, Mapping[str, str], Mapping[str, str]]:
    path = "users"
    if settings.group is not None:
        path = f"groups/{client.path_segment(settings.group.strip())}/transitiveMembers/microsoft.graph.user"
    params = {"$select": ",".join(directory_user.FIELDS), "$top": str(PAGE)}
    if clauses := [clause for clause in (settings.filter, wanted) if clause is not None]:
        params["$filter"] = clauses[0] if len(clauses) == 1 else " and ".join(f"({clause})" for clause in clauses)
    if settings.group is None and settings.filter is None:
        return path, params, {}
    return path, {**params, "$count": "true"}, ADVANCED


async def _some(users: AsyncIterator[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Up to one page of users; empty at the end."""
    found = []
    async for user in users:
        found.append(user)
        if len(found) == PAGE:
            break
    return found


def _explained(error: ServiceUnavailable) -> ServiceUnavailable:
    """The error with a hint about [[rosters]]: only its group and filter can make the request wrong."""
    status = error.message.partition('refused: "')[2][:3]
    return ServiceUnavailable(error.message, where=error.where, hint=_HINTS.get(status, error.hint))


def _left_out(names: list[str]) -> Issue:
    shown = ", ".join(f'"{escape_unsafe(name)}"' for name in names[:NAMED])
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    message = f"users without a mail address were skipped: {shown}{more}"
    return Issue(Severity.NOTE, CheckId.NO_ADDRESS, message, "no action needed unless they have a mailbox", directory_user.SOURCE)
