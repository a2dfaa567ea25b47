"""The requests to Graph about users and their imported certificates, each made once; reading may be repeated."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from distributor.clients.graph import GraphClient, HttpResponse, NoResponse, odata_literal, path_segment, service_error
from distributor.clients.throttle import RetryPolicy
from distributor.errors import Error, ServiceUnavailable
from distributor.microsoft import directory_user
from distributor.microsoft.pfx_import import RECORDS
from distributor.model.people import Address, DirectoryUser

BETA = "beta"  # v1.0 has no imported certificates
_FIELDS = ("id", "userPrincipalName", "mail", "proxyAddresses", "accountEnabled", "userType")
_READS = RetryPolicy(4, timedelta(seconds=5), timedelta(seconds=120))


@dataclass(frozen=True, slots=True)
class User:
    """A user who can have records."""

    id: str
    name: str  # userPrincipalName


@dataclass(frozen=True, slots=True)
class NoUser:
    """Why there is no user for an address."""

    why: str


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it is read, without package and password."""

    values: Mapping[str, Any]

    @property
    def changed_at(self) -> datetime:
        """When it was written last."""
        try:
            return datetime.fromisoformat(str(self.values.get("lastModifiedDateTime"))).astimezone(UTC)
        except ValueError:
            return datetime.min.replace(tzinfo=UTC)


class IntuneRecords:
    """Users and records of one tenant."""

    timeout = 100.0  # seconds, of one request

    def __init__(self, graph: GraphClient) -> None:
        self.graph = graph
        self._users: dict[str, User] = {}  # by Address.key

    async def user(self, address: Address) -> User | NoUser | HttpResponse | NoResponse:
        """The enabled user whose primary address this is. Raises ServiceUnavailable if the sign-in fails."""
        if (known := self._users.get(address.key)) is not None:
            return known
        mail = odata_literal(str(address))
        users: list[Mapping[str, Any]] = []
        for wanted in (f"proxyAddresses/any(p:p eq {odata_literal(f'smtp:{address}')})", f"mail eq {mail}"):
            params = {"$filter": wanted, "$select": ",".join(_FIELDS)}
            response = await self.graph.call("GET", "users", params=params, timeout=self.timeout)
            match response:
                case HttpResponse(status=200, body={"value": list(found)}):
                    users += [user for user in found if isinstance(user, dict) and not directory_user.is_guest(user)]
                case HttpResponse(status=200):
                    return NoResponse("unexpected response: no list of users", request_sent=True)
                case _:
                    return response
            if (one := self._chosen(address, users)) is not None:
                return one
        return NoUser(f"no user of the tenant has the address {address}")

    def _chosen(self, address: Address, users: list[Mapping[str, Any]]) -> User | NoUser | None:
        """The only enabled user whose primary address it is; what Exchange says counts more than an attribute that anybody may fill in."""
        entries = [(entry, user) for user in users if isinstance(entry := directory_user.to_directory_user(user), DirectoryUser)]
        same = [(entry, user) for entry, user in entries if entry.person.address.key == address.key]
        if not same:
            primary = next((entry.person.address for entry, _ in entries), None)
            return NoUser(f'the primary address of this user is "{primary}"; Outlook uses no certificate for another') if primary else None
        enabled = [(entry, user) for entry, user in same if entry.enabled]
        chosen = [user for entry, user in enabled if entry.authoritative] or [user for _, user in enabled]
        names = {str(user["id"]): str(user["userPrincipalName"]) for user in chosen}
        if len(names) != 1:
            return NoUser("several users of the tenant have this address" if names else "the account of this user is disabled")
        found = self._users[address.key] = User(*next(iter(names.items())))
        return found

    async def read(self, record: str) -> Record | HttpResponse | NoResponse | None:
        """The record with this id; None where there is none. Raises ServiceUnavailable if the sign-in fails."""
        return _record(await self._call("GET", f"{RECORDS}/{path_segment(record)}"))

    async def read_with_retries(self, record: str) -> Record | HttpResponse | NoResponse | None:
        """The same, waiting while the service is busy."""
        path = f"{RECORDS}/{path_segment(record)}"
        return _record(await _READS.call(lambda: self._call("GET", path), asyncio.sleep))

    async def create(self, body: Mapping[str, str]) -> HttpResponse | NoResponse:
        """Write a new record."""
        return await self._call("POST", RECORDS, dict(body))

    async def update(self, record: str, body: Mapping[str, str]) -> HttpResponse | NoResponse:
        """Write a record that is there, whole."""
        return await self._call("PATCH", f"{RECORDS}/{path_segment(record)}", dict(body))

    async def probe(self) -> HttpResponse | NoResponse:
        """Ask for one record, to see whether they can be read."""
        return await self._call("GET", RECORDS, params={"$top": "1"})

    async def connectors(self) -> list[Mapping[str, Any]]:
        """The certificate connectors of the tenant; none where they cannot be read."""
        response = await self._call("GET", "deviceManagement/certificateConnectorDetails")
        match response:
            case HttpResponse(status=200, body={"value": list(found)}):
                return [one for one in found if isinstance(one, dict)]
        return []

    async def _call(
        self, method: str, path: str, body: object = None, *, params: Mapping[str, str] | None = None
    ) -> HttpResponse | NoResponse:
        return await self.graph.call(method, path, json=body, params=params, timeout=self.timeout, version=BETA)

    def error(self, response: HttpResponse | NoResponse) -> Error:
        """The error of a failed request."""
        failed: ServiceUnavailable = service_error(response, self.graph.where)
        return failed

    async def close(self) -> None:
        """Close the connections."""
        await self.graph.close()


def _record(response: HttpResponse | NoResponse) -> Record | HttpResponse | NoResponse | None:
    match response:
        case HttpResponse(status=200, body=dict(values)) if "thumbprint" in values:
            return Record(values)
        case HttpResponse(status=200):
            return NoResponse("unexpected response: no imported certificate", request_sent=True)
        case HttpResponse(status=404):
            return None
    return response
