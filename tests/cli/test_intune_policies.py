"""`distributor intune plan` and `apply` against the double: the diff, what is kept, twice is once, and faults."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from tests import intune
from tests.authority import Authority
from tests.doubles.graphd import Cloud
from tests.intune import Run
from tests.workspace import Workspace

ROLES = ["DeviceManagementConfiguration.ReadWrite.All", "DeviceManagementApps.ReadWrite.All", "GroupMember.Read.All", "User.Read.All"]
APPS = [("Microsoft Outlook", "iosStoreApp"), ("Microsoft Outlook: Secure email", "androidManagedStoreApp")]
PREFIX = "com.microsoft.outlook.Mail."
MORE = """
[intune.outlook]
sign_all = true
ldap = "ldaps://ldap.example.org"

[intune.profiles]
roots = ["root.pem"]
imported = ["encryption", "signing"]
derived = true

[intune.profiles.scep]
urls = ["https://scep.example.org/certsrv/mscep"]
"""


@pytest.fixture
def cloud(running: Cloud) -> Iterator[Cloud]:
    running.intune(apps=APPS, configurations={}, profiles={}, licensed=True)
    yield running
    assert (running.violations(), running.refusals(), running.faults()) == ([], [], [])


@pytest.fixture(scope="module")
def group(running: Cloud) -> str:
    return running.group("Phones with S/MIME")


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority, cloud: Cloud, group: str) -> Iterator[Workspace]:
    (tmp_path / "workspace").mkdir()
    made = Workspace(tmp_path / "workspace", authority)
    made.run_script("$ distributor init >/dev/null 2>&1\n")
    assert group
    intune.configure(made, cloud, ROLES, more='groups = ["Phones with S/MIME"]\n')
    (made.folder / "root.pem").write_bytes(authority.root.public_bytes(Encoding.PEM))
    with (made.folder / "distributor.toml").open("a", encoding="utf-8") as config:
        config.write(MORE)
    yield made
    made.close()


@pytest.fixture
def run(workspace: Workspace, cloud: Cloud) -> Run:
    return intune.runner(workspace, cloud)


def settings_of(configuration: dict[str, Any]) -> dict[str, Any]:
    if "settings" in configuration:
        return {one["appConfigKey"]: one["appConfigKeyValue"] for one in configuration["settings"]}
    payload = json.loads(base64.b64decode(configuration["payloadJson"]))
    return {one["key"]: one.get("valueBool", one.get("valueString")) for one in payload["managedProperty"]}


def test_everything_is_created_assigned_and_verified_and_twice_is_once(run: Run, cloud: Cloud, group: str) -> None:
    planned = run("distributor intune plan")
    assert planned.returncode == 0, planned.stdout
    assert "+ distributor: Outlook, iOS" in planned.stdout
    assert "    SMIMEEnabled.SignAllMail: true" in planned.stdout
    assert "    assigned to: Phones with S/MIME" in planned.stdout
    assert 'Open the policy "distributor: Outlook, iOS"' in planned.stdout
    assert (cloud.intune_state()["configurations"], cloud.intune_state()["profiles"]) == ({}, {})
    applied = run("distributor intune apply --yes")
    assert applied.returncode == 0, applied.stdout
    assert "16 policies written and verified" in applied.stdout
    state = cloud.intune_state()
    assert (len(state["configurations"]), len(state["profiles"])) == (2, 14)
    for one in (*state["configurations"].values(), *state["profiles"].values()):
        assert [each["target"]["groupId"] for each in one["assignments"]] == [group]
    for one in state["configurations"].values():
        assert settings_of(one)[f"{PREFIX}SMIMEEnabled"] in {"true", True}
        assert settings_of(one)[f"{PREFIX}SMIMEEnabled.LDAPHostName"] == "ldaps://ldap.example.org"
    again = run("distributor intune apply --yes")
    assert "nothing to change" in again.stdout
    assert cloud.intune_state()["profiles"] == state["profiles"]


def test_what_others_wrote_stays(run: Run, cloud: Cloud, group: str) -> None:
    other = {"@odata.type": "#microsoft.graph.allDevicesAssignmentTarget"}
    cloud.intune(
        configurations={
            "c-1": {
                "@odata.type": "#microsoft.graph.iosMobileAppConfiguration",
                "id": "c-1",
                "displayName": "distributor: Outlook, iOS",
                "description": "made by hand",
                "targetedMobileApps": ["another-app"],
                "settings": [
                    {"appConfigKey": "com.example.other", "appConfigKeyType": "stringType", "appConfigKeyValue": "kept"},
                    {"appConfigKey": f"{PREFIX}SMIMEEnabled", "appConfigKeyType": "booleanType", "appConfigKeyValue": "false"},
                ],
                "assignments": [{"id": "a-1", "target": other}],
                "version": 1,
                "createdDateTime": "2026-01-01T00:00:00Z",
                "lastModifiedDateTime": "2026-01-01T00:00:00Z",
            }
        }
    )
    planned = run("distributor intune plan")
    assert "~ distributor: Outlook, iOS" in planned.stdout
    assert "    SMIMEEnabled: false -> true" in planned.stdout
    assert "com.example.other" not in planned.stdout
    assert run("distributor intune apply --yes").returncode == 0
    found = cloud.intune_state()["configurations"]["c-1"]
    assert settings_of(found)["com.example.other"] == "kept"
    assert settings_of(found)[f"{PREFIX}SMIMEEnabled"] == "true"
    assert found["description"] == "made by hand"
    assert found["targetedMobileApps"][0] == "another-app"
    assert [each["target"].get("groupId", "everybody") for each in found["assignments"]] == ["everybody", group]


def test_a_service_that_fails_is_asked_again_or_told(run: Run, cloud: Cloud) -> None:
    cloud.fault("deviceConfiguration.create", "429", retry_after=1)
    cloud.fault("mobileAppConfiguration.create", "status", status=400, code="BadRequest", message="An error has occurred")
    first = run("distributor intune apply --yes")
    assert first.returncode == 4, first.stdout
    assert '"distributor: Outlook, iOS" was not written: 400 BadRequest: An error has occurred, request-id' in first.stdout
    cloud.fault("mobileAppConfiguration.assign", "reset-after")
    cloud.fault("mobileAppConfiguration.get", "status", status=404, code="ResourceNotFound", message="Resource not found")
    assert run("distributor intune apply --yes").returncode == 0
    assert "nothing to change" in run("distributor intune apply --yes").stdout
    names = [one["displayName"] for one in cloud.intune_state()["profiles"].values()]
    assert len(names) == len(set(names)) == 14


def test_a_tenant_without_the_app_or_the_permission_is_told_what_to_do(run: Run, cloud: Cloud, workspace: Workspace) -> None:
    cloud.intune(apps=[])
    planned = run("distributor intune plan")
    assert planned.returncode == 1
    assert "error: intune: Outlook for ios is not among the apps of the tenant" in planned.stdout
    assert "Managed Google Play" in planned.stdout
    cloud.intune(apps=APPS)
    config = workspace.folder / "distributor.toml"
    poor = cloud.app(secrets={"s3cret": None}, roles=["GroupMember.Read.All", "DeviceManagementConfiguration.ReadWrite.All"])
    text = config.read_text(encoding="utf-8")
    before = text[text.index("[intune]") :].split('client_id = "')[1].split('"')[0]
    config.write_text(text.replace(before, poor), encoding="utf-8")
    refused = run("distributor intune plan")
    assert refused.returncode == 4
    told = run("distributor doctor")
    assert "DeviceManagementApps.ReadWrite.All" in told.stdout
