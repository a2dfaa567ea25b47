"""An object that is wanted and the one that is there -> what would change, and the whole object to be written (facts: intune.md 2, 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from distributor.microsoft.intune_policies import ANDROID_SETTINGS, EXCLUDED, GROUP, IOS_SETTINGS, Policy, decoded, encoded
from distributor.microsoft.outlook import PREFIX

_OF_THE_SERVICE = frozenset({"id", "createdDateTime", "lastModifiedDateTime", "version", "assignments", "supportsScopeTags"})
_LONGEST = 60  # characters of a value that are shown


@dataclass(frozen=True, slots=True)
class Line:
    """A difference: the key, and its value before and after; None: it is not there."""

    key: str
    before: str | None
    after: str


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done about a policy. `body`: what is written; `targets`: the whole list of assignments; None: nothing to do.

    `id` None: the object is not there yet. `refused`: why it cannot be changed.
    """

    policy: Policy
    id: str | None
    lines: tuple[Line, ...]
    body: Mapping[str, Any] | None
    targets: tuple[Mapping[str, Any], ...] | None
    groups: tuple[str, ...] = ()  # names of the groups that are added
    refused: str = ""

    @property
    def is_due(self) -> bool:
        """Whether there is anything to write."""
        return self.body is not None or self.targets is not None


def compare(policy: Policy, there: Mapping[str, Any] | None, groups: Mapping[str, str]) -> Change:
    """The change for a policy. `there`: the object of this name and type, with its assignments; `groups`: names by id."""
    wanted = {"displayName": policy.name, **policy.values}
    if there is None:
        body = {"@odata.type": policy.type, **wanted}
        lines = tuple(Line(key, None, after) for key, after in _flat(policy, wanted).items())
        return _assigned(Change(policy, None, lines, body, None), (), groups)
    merged = _merged(policy, wanted, there)
    before, after = _flat(policy, there), _flat(policy, merged)
    lines = tuple(Line(key, before.get(key), value) for key, value in after.items() if before.get(key) != value)
    if any(line.key == "intendedPurpose" for line in lines):
        why = f'its purpose is "{there.get("intendedPurpose")}", which cannot be changed: rename it in the portal, and run this again'
        return Change(policy, str(there["id"]), lines, None, None, refused=why)
    kept = {name: value for name, value in there.items() if name not in _OF_THE_SERVICE and "@odata." not in name}
    changed = {"@odata.type": policy.type, **kept, **merged} if lines else None
    targets = tuple(one["target"] for one in there.get("assignments") or () if isinstance(one, Mapping) and one.get("target"))
    return _assigned(Change(policy, str(there["id"]), lines, changed, None), targets, groups)


def _assigned(change: Change, there: Sequence[Mapping[str, Any]], groups: Mapping[str, str]) -> Change:
    """Assigning replaces the whole list: what is there stays, and the groups that are missing come behind."""
    excluded = [groups[id_] for one in there if one.get("@odata.type") == EXCLUDED and (id_ := str(one.get("groupId"))) in groups]
    if excluded:
        return replace(change, body=None, refused=f'the group "{excluded[0]}" is excluded from it in the portal')
    known = {one.get("groupId") for one in there if one.get("@odata.type") == GROUP}
    new = [id_ for id_ in groups if id_ not in known]
    if not new:
        return change
    targets = (*(dict(one) for one in there), *({"@odata.type": GROUP, "groupId": id_} for id_ in new))
    return replace(change, targets=targets, groups=tuple(groups[id_] for id_ in new))


def _merged(policy: Policy, wanted: Mapping[str, Any], there: Mapping[str, Any]) -> dict[str, Any]:
    """What is wanted, with the keys of others in it that are there."""
    merged = dict(wanted)
    if policy.type == IOS_SETTINGS:
        merged["settings"] = _joined(there.get("settings") or (), wanted["settings"], "appConfigKey")
        merged["targetedMobileApps"] = list(dict.fromkeys([*(there.get("targetedMobileApps") or ()), *wanted["targetedMobileApps"]]))
    elif policy.type == ANDROID_SETTINGS:
        old, new = decoded(there.get("payloadJson")), decoded(wanted["payloadJson"])
        joined = _joined(old.get("managedProperty") or (), new["managedProperty"], "key")
        merged["payloadJson"] = encoded({**old, **new, "managedProperty": joined})
        merged["targetedMobileApps"] = list(dict.fromkeys([*(there.get("targetedMobileApps") or ()), *wanted["targetedMobileApps"]]))
        merged["profileApplicability"] = there.get("profileApplicability") or wanted["profileApplicability"]
        if _package(there.get("packageId")) == _package(wanted["packageId"]):
            merged["packageId"] = there["packageId"]
    if "extendedKeyUsages" in merged:  # the service adds one with every write
        merged["extendedKeyUsages"] = _usages([*(there.get("extendedKeyUsages") or ()), *merged["extendedKeyUsages"]])
    return merged


def _joined(there: Sequence[Mapping[str, Any]], ours: Sequence[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    new = {str(entry[name]): entry for entry in ours}
    kept = [new.pop(str(entry.get(name)), entry) for entry in there]
    return [*kept, *new.values()]


def _usages(found: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return list({str(one.get("objectIdentifier")): {name: one[name] for name in ("name", "objectIdentifier")} for one in found}.values())


def _package(text: object) -> str:
    return str(text or "").removeprefix("app:")


# --- as lines --------------------------------------------------------------------------------------------------------


def _flat(policy: Policy, values: Mapping[str, Any]) -> dict[str, str]:
    """The values that matter, by the names that are shown; those of Outlook's settings one by one."""
    found: dict[str, str] = {}
    for name in ("displayName", *policy.values):
        if name == "settings":
            found |= {_short(entry["appConfigKey"]): str(entry["appConfigKeyValue"]) for entry in values.get(name) or ()}
        elif name == "payloadJson":
            entries = decoded(values.get(name)).get("managedProperty") or ()
            found |= {_short(entry.get("key")): _value(entry) for entry in entries if isinstance(entry, Mapping)}
        elif name == "extendedKeyUsages":
            found[name] = ", ".join(sorted({str(one.get("name")) for one in values.get(name) or ()}))
        elif name == "packageId":
            found[name] = _package(values.get(name))
        elif values.get(name) is not None:
            found[name] = _text(values[name])
    return found


def _value(entry: Mapping[str, Any]) -> str:
    value = next((entry[name] for name in entry if name.startswith("value")), "")
    return str(value).lower() if isinstance(value, bool) else str(value)


def _short(key: object) -> str:
    return str(key).removeprefix(PREFIX)


def _text(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(_text(one) for one in value)
    if isinstance(value, Mapping):
        return " ".join(str(value[name]) for name in sorted(value) if "@odata" not in name)
    return str(value)


def shown(text: str) -> str:
    """A value as it is printed: a certificate is cut."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
