"""App configurations and device configurations of a tenant: read with their assignments, written, and read again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from distributor.adapters.intune.session import described
from distributor.clients.graph import GraphClient, HttpResponse, NoResponse, odata_literal, path_segment
from distributor.clients.throttle import RetryPolicy, Sleep
from distributor.errors import InvalidInput, ServiceUnavailable
from distributor.microsoft.intune_policies import PROFILES, Platform, Policy
from distributor.model.people import bounded

_RETRIES = RetryPolicy(5, timedelta(seconds=2), timedelta(seconds=120))
_STORES = {Platform.IOS: "microsoft.graph.iosStoreApp", Platform.ANDROID: "microsoft.graph.androidManagedStoreApp"}
_ADD = {
    Platform.IOS: "add it once: Intune admin center, Apps, iOS/iPadOS, Add, iOS store app, search for Microsoft Outlook",
    Platform.ANDROID: "add it once: Intune admin center, Apps, Android, Add, Managed Google Play app, approve Microsoft Outlook, then Sync",
}
_HINTS = {
    403: "grant the app DeviceManagementApps.ReadWrite.All, DeviceManagementConfiguration.ReadWrite.All and GroupMember.Read.All with admin"
    " consent; `distributor doctor` prints the line; the tenant needs an Intune licence",
    400: "Intune gives no reason; check the values in [intune], and whether the portal takes the same ones",
    409: "somebody else is changing it; run the command again",
}
_AGAIN = "run the command again; what is done already is not done twice"


class IntunePolicies:
    """The policies of one tenant."""

    def __init__(self, graph: GraphClient, sleep: Sleep, timeout: float) -> None:
        self.graph, self.sleep, self._timeout = graph, sleep, timeout

    async def every(self, path: str, version: str) -> list[Mapping[str, Any]]:
        """All objects, with their assignments."""
        return [one async for one in self.graph.pages(path, params={"$expand": "assignments"}, version=version)]

    async def outlook(self, platform: Platform) -> list[str]:
        """The ids of the Outlook app for these phones. Raises InvalidInput where the tenant has none."""
        params = {"$filter": f"contains(displayName,'Outlook') and isof('{_STORES[platform]}')"}
        found = [one async for one in self.graph.pages("deviceAppManagement/mobileApps", params=params)]
        ids = [str(one["id"]) for one in found if "outlook" in str(one.get("displayName", "")).lower()]
        if not ids:
            raise InvalidInput(f"Outlook for {platform} is not among the apps of the tenant", where="intune", hint=_ADD[platform])
        return ids

    async def group(self, name: str) -> tuple[str, str]:
        """Id and name of a group, by either. Raises InvalidInput where there is none, or several."""
        params = {"$filter": f"displayName eq {odata_literal(name)}", "$select": "id,displayName"}
        found = [one async for one in self.graph.pages("groups", params=params)]
        if not found:
            response = await self.graph.call("GET", f"groups/{path_segment(name)}", params={"$select": "id,displayName"})
            found = [response.body] if isinstance(response, HttpResponse) and response.good and response.body else []
        if len(found) != 1:
            what = "no group has this name or ID" if not found else f"{len(found)} groups have this name"
            raise InvalidInput(f'"{name}": {what}', where="intune.groups", hint="write the group's object ID, as Entra shows it")
        return str(found[0]["id"]), str(found[0].get("displayName") or name)

    async def read(self, policy: Policy, id_: str) -> Mapping[str, Any] | None:
        """An object with its assignments; None where it cannot be seen yet."""
        path = f"{policy.path}/{path_segment(id_)}"
        response = await self._repeated(lambda: self._call(policy, "GET", path, params={"$expand": "assignments"}))
        if response.status == 404:  # noqa: PLR2004
            return None
        return self._good(response, policy).body

    async def create(self, policy: Policy, body: Mapping[str, Any]) -> str:
        """Create it; its id. Only a 429 is repeated: after another answer, or none, the object may be there. Raises ServiceUnavailable."""
        response = await self._call(policy, "POST", policy.path, json=dict(body))
        for _ in range(_RETRIES.tries):
            if not isinstance(response, HttpResponse) or response.status != 429 or response.retry_after_exceeds(_RETRIES.longest):  # noqa: PLR2004
                break
            await self.sleep((response.retry_after or _RETRIES.shortest).total_seconds())
            response = await self._call(policy, "POST", policy.path, json=dict(body))
        made = self._good(response, policy).body or {}
        return str(made["id"])

    async def update(self, policy: Policy, id_: str, body: Mapping[str, Any]) -> None:
        """Write it whole."""
        path = f"{policy.path}/{path_segment(id_)}"
        self._good(await self._repeated(lambda: self._call(policy, "PATCH", path, json=dict(body))), policy)

    async def assign(self, policy: Policy, id_: str, targets: Sequence[Mapping[str, Any]]) -> None:
        """Replace its assignments."""
        path, body = f"{policy.path}/{path_segment(id_)}/assign", {"assignments": [{"target": dict(one)} for one in targets]}
        self._good(await self._repeated(lambda: self._call(policy, "POST", path, json=body)), policy)

    def link(self, root: str) -> str:
        """How a profile names the trusted root with this id."""
        return f"{self.graph.root}/beta/{PROFILES}('{root}')"

    async def close(self) -> None:
        """Close the connections."""
        await self.graph.close()

    async def _call(
        self, policy: Policy, method: str, path: str, *, json: object = None, params: Mapping[str, str] | None = None
    ) -> HttpResponse | NoResponse:
        return await self.graph.call(method, path, json=json, params=params, timeout=self._timeout, version=policy.version)

    async def _repeated(self, ask: Callable[[], Awaitable[HttpResponse | NoResponse]]) -> HttpResponse:
        """A request that may be made twice: waits while the service is busy, and asks once more where there was no answer."""
        response = await _RETRIES.call(ask, self.sleep)
        if isinstance(response, NoResponse):
            response = await _RETRIES.call(ask, self.sleep)
        if isinstance(response, NoResponse):
            raise ServiceUnavailable(response.why, where=self.graph.where, hint=_AGAIN)
        return response

    def _good(self, response: HttpResponse | NoResponse, policy: Policy) -> HttpResponse:
        if isinstance(response, HttpResponse) and response.good:
            return response
        status = response.status if isinstance(response, HttpResponse) else 0
        message = bounded(f'"{policy.name}" was not written: {described(response)}')
        raise ServiceUnavailable(message, where=self.graph.where, hint=_HINTS.get(status, _AGAIN))
