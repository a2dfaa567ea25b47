"""What is wanted against what is there: whatever others wrote stays, and what was written needs no second change."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from distributor.microsoft import outlook
from distributor.microsoft.intune_changes import compare
from distributor.microsoft.intune_policies import (
    EXCLUDED,
    GROUP,
    AndroidKind,
    Platform,
    Policy,
    Purpose,
    Scep,
    Wanted,
    decoded,
    encoded,
    policies,
)

KEYS = st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), min_size=1, max_size=20)
OURS = outlook.settings(sign=True, encrypt=False, users_may_change=True, ldap="ldap.example.org", deploy=True)
SCEP = Scep(("https://scep.example.org",), "CN={{UserName}}", 2048, 1, (Purpose.SIGNING,))
EVERYTHING = Wanted(
    "ours", tuple(Platform), tuple(AndroidKind), tuple(OURS), {}, (("root.pem", b"der"),), tuple(Purpose), derived=True, scep=SCEP
)


def wanted() -> list[Policy]:
    """Every policy, those of the app with its id."""
    return [
        Policy(one.name, one.type, {**one.values, "targetedMobileApps": ["app"]}, one.link) if one.is_settings else one
        for one in policies(EVERYTHING)
    ]


def stored(policy: Policy, body: Any) -> dict[str, Any]:  # noqa: ANN401  JSON
    """As the service has it: with an id, and a usage more."""
    values = {"id": "1", "version": 1, "assignments": [], **body}
    if "extendedKeyUsages" in values and "Imported" in policy.type:
        values["extendedKeyUsages"] = [*values["extendedKeyUsages"], {"name": "Any Purpose", "objectIdentifier": "2.5.29.37.0"}]
    return values


def test_names_are_different_and_a_bound_profile_names_a_root() -> None:
    found = wanted()
    assert len({policy.name for policy in found}) == len(found) == 16
    names = [policy.name for policy in found]
    for policy in found:
        assert not policy.link or names.index(policy.link) < names.index(policy.name)


def test_what_was_written_needs_no_second_change() -> None:
    for policy in wanted():
        first = compare(policy, None, {"g": "Group"})
        assert first.body is not None
        there = stored(policy, first.body) | {"assignments": [{"target": one} for one in first.targets or ()]}
        assert not compare(policy, there, {"g": "Group"}).is_due


@given(others=st.dictionaries(KEYS, st.booleans() | KEYS, max_size=5), old=st.booleans())
def test_keys_of_others_survive_on_android(others: dict[str, bool | str], old: bool) -> None:  # noqa: FBT001
    policy = next(one for one in wanted() if one.is_settings and one.platform is Platform.ANDROID)
    entries = [{"key": key, "valueBool" if isinstance(value, bool) else "valueString": value} for key, value in others.items()]
    mine = [{"key": setting.key, "valueBool": not setting.value} for setting in OURS if isinstance(setting.value, bool)] if old else []
    payload = {"kind": "androidenterprise#managedConfiguration", "productId": "app:x", "managedProperty": [*entries, *mine], "more": 1}
    there = {
        **stored(policy, policy.values),
        "displayName": policy.name,
        "payloadJson": encoded(payload),
        "packageId": "com.microsoft.office.outlook",
    }
    change = compare(policy, there, {})
    assert change.body is not None
    written = decoded(change.body["payloadJson"])
    found = {one["key"]: one.get("valueBool", one.get("valueString")) for one in written["managedProperty"]}
    assert written["more"] == 1
    assert others.items() <= found.items() or {setting.key for setting in OURS} & others.keys()
    assert {setting.key: setting.value for setting in OURS}.items() <= found.items()
    assert change.body["packageId"] == "com.microsoft.office.outlook"
    assert not compare(policy, {**there, **change.body}, {}).is_due


def test_assignments_are_added_to_and_an_excluded_group_is_told() -> None:
    policy = wanted()[0]
    everybody = {"@odata.type": "#microsoft.graph.allDevicesAssignmentTarget"}
    there = stored(policy, {"displayName": policy.name, **policy.values}) | {"assignments": [{"id": "a", "target": everybody}]}
    change = compare(policy, there, {"g": "Group"})
    assert (change.body, change.targets) == (None, (everybody, {"@odata.type": GROUP, "groupId": "g"}))
    out = {**there, "assignments": [{"target": {"@odata.type": EXCLUDED, "groupId": "g"}}]}
    assert compare(policy, out, {"g": "Group"}).refused == 'the group "Group" is excluded from it in the portal'


def test_a_purpose_is_never_changed() -> None:
    policy = next(one for one in wanted() if one.values.get("intendedPurpose") == "smimeEncryption")
    there = stored(policy, {"displayName": policy.name, **policy.values, "intendedPurpose": "smimeSigning"})
    change = compare(policy, there, {})
    assert change.body is None
    assert 'its purpose is "smimeSigning", which cannot be changed' in change.refused
