"""Compares the policies that are wanted with those of a tenant, and writes what differs: nothing is deleted, and twice is once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from distributor.errors import Error
from distributor.microsoft.intune_changes import Change, compare
from distributor.microsoft.intune_policies import Platform, Policy

_FIRST_LOOK, _LOOKS = 0.5, 6  # seconds, doubled each time: about 30 s
Sleep = Callable[[float], Any]


class PolicyStore(Protocol):
    """The policies of a tenant. Every method raises ServiceUnavailable."""

    async def every(self, path: str, version: str) -> list[Mapping[str, Any]]:
        """All objects of a kind, with their assignments."""
        ...

    async def outlook(self, platform: Platform) -> list[str]:
        """The ids of the Outlook app. Raises InvalidInput where the tenant has none."""
        ...

    async def group(self, name: str) -> tuple[str, str]:
        """Id and name of a group. Raises InvalidInput."""
        ...

    async def read(self, policy: Policy, id_: str) -> Mapping[str, Any] | None:
        """One object with its assignments."""
        ...

    async def create(self, policy: Policy, body: Mapping[str, Any]) -> str:
        """Create an object; its id."""
        ...

    async def update(self, policy: Policy, id_: str, body: Mapping[str, Any]) -> None:
        """Write an object whole."""
        ...

    async def assign(self, policy: Policy, id_: str, targets: Sequence[Mapping[str, Any]]) -> None:
        """Replace its assignments."""
        ...

    def link(self, root: str) -> str:
        """How a profile names a trusted root."""
        ...


@dataclass(frozen=True, slots=True)
class PolicyPlan:
    """The changes, roots first; the groups by id; and what keeps others from being compared."""

    changes: tuple[Change, ...]
    groups: Mapping[str, str]
    missing: tuple[Error, ...] = ()

    @property
    def due(self) -> list[Change]:
        """What is to be written."""
        return [change for change in self.changes if change.is_due]


async def plan(store: PolicyStore, wanted: Iterable[Policy], names: Sequence[str]) -> PolicyPlan:
    """Compare; reads only. `names`: of the groups that everything is assigned to. Raises what the store raises."""
    groups = dict([await store.group(name) for name in names])
    there: dict[tuple[str, str], Mapping[str, Any]] = {}
    policies = list(wanted)
    for path, version in dict.fromkeys((one.path, one.version) for one in policies):
        for found in await store.every(path, version):
            there.setdefault((str(found.get("displayName")), str(found.get("@odata.type"))), found)
    changes: list[Change] = []
    missing: list[Error] = []
    for policy in policies:
        try:
            complete = await _complete(store, policy)
        except Error as error:
            missing.append(error)
            continue
        changes.append(compare(complete, there.get((policy.name, policy.type)), groups))
    return PolicyPlan(tuple(changes), groups, tuple(missing))


async def _complete(store: PolicyStore, policy: Policy) -> Policy:
    """An app's configuration names the app by its id in the tenant."""
    if not policy.is_settings:
        return policy
    return replace(policy, values={**policy.values, "targetedMobileApps": await store.outlook(policy.platform)})


@dataclass(frozen=True, slots=True)
class Applied:
    """A change that was made, and read back. `other`: in what the object differs from what was written, by the names of keys."""

    change: Change
    id: str
    other: tuple[str, ...] = ()


async def apply(store: PolicyStore, planned: PolicyPlan, sleep: Sleep, tell: Callable[[Applied], None]) -> list[Applied]:
    """Write what is due, one after the other, each verified. Raises what the store raises; what was done stays done."""
    ids = {change.policy.name: change.id for change in planned.changes if change.id is not None}
    done = []
    for change in planned.due:
        one = await _apply(store, change, ids, planned.groups, sleep)
        ids[change.policy.name] = one.id
        done.append(one)
        tell(one)
    return done


async def _apply(store: PolicyStore, change: Change, ids: Mapping[str, str], groups: Mapping[str, str], sleep: Sleep) -> Applied:
    policy, id_ = change.policy, change.id
    if change.body is not None:
        body = dict(change.body)
        if policy.link:
            body["rootCertificate@odata.bind"] = store.link(ids[policy.link])
        if id_ is None:
            id_ = await store.create(policy, body)
        else:
            await store.update(policy, id_, body)
    assert id_ is not None  # noqa: S101  what is not there is created
    if change.targets is not None:
        await store.assign(policy, id_, change.targets)
    return Applied(change, id_, await _difference(store, policy, id_, groups, sleep))


async def _difference(store: PolicyStore, policy: Policy, id_: str, groups: Mapping[str, str], sleep: Sleep) -> tuple[str, ...]:
    """What is not as it was written, after some looks: the service may show it late."""
    wait = _FIRST_LOOK
    left: tuple[str, ...] = ("not visible",)
    for look in range(_LOOKS):
        if look:
            await sleep(wait)
            wait *= 2
        there = await store.read(policy, id_)
        if there is not None:
            again = compare(policy, there, groups)
            left = (*(line.key for line in again.lines), *(("assignments",) if again.targets is not None else ()))
            if not left:
                break
    return left
