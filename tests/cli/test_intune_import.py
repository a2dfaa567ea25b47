"""`distributor intune import`: from files to records that the connector can open, against the double."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import intune
from tests.authority import Authority
from tests.doubles.graphd import Cloud
from tests.intune import Run
from tests.workspace import PASSWORD, Workspace, answer

IMPORT = "distributor intune import certificates --roster people.csv"


@pytest.fixture
def cloud(tenant: Cloud) -> Iterator[Cloud]:
    intune.prepare(tenant)
    yield tenant
    assert (tenant.violations(), tenant.refusals(), tenant.faults()) == ([], [], [])


@pytest.fixture(scope="module")
def tenant(running: Cloud) -> Cloud:
    """With its people."""
    intune.people(running, "alice@example.org", "bob@example.org")
    return running


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority, cloud: Cloud) -> Iterator[Workspace]:
    (tmp_path / "workspace").mkdir()
    made = Workspace(tmp_path / "workspace", authority)
    made.run_script("$ distributor init >/dev/null 2>&1\n+ server\n+ people\n")
    intune.configure(made, cloud)
    yield made
    made.close()


@pytest.fixture
def run(workspace: Workspace, cloud: Cloud) -> Run:
    return intune.runner(workspace, cloud)


def rows(run: Run) -> dict[str, dict[str, Any]]:
    return {row["address"]: row for row in answer(run("distributor status --json"))["deliveries"]}


def test_certificates_reach_the_connector_which_opens_them(run: Run, cloud: Cloud) -> None:
    told = run(f"{IMPORT} --yes")
    assert told.returncode == 0
    assert "2 certificates imported" in told.stdout
    installed = cloud.installed()
    assert {one["userPrincipalName"] for one in installed} == {"alice@example.org", "bob@example.org"}
    assert all(one["thumbprint"] == one["certificate"] and one["writes"] == 1 for one in installed)
    assert {one["intendedPurpose"] for one in installed} == {"smimeEncryption"}
    found = rows(run)
    assert {row["way"] for row in found.values()} == {"intune"}
    assert {(row["state"], row["password"]) for row in found.values()} == {("accepted", None)}
    assert {row["message_id"] for row in found.values()} == {one["id"] for one in installed}
    assert run("distributor audit verify").returncode == 0
    refused = run("distributor password reveal alice@example.org --reason test --stdout")
    assert "Intune installs this certificate: nobody types a password" in refused.stdout


def test_a_second_import_does_nothing(run: Run, cloud: Cloud) -> None:
    answer(run(f"{IMPORT} --yes --json 2>/dev/null"))
    again = answer(run(f"{IMPORT} --yes --json 2>/dev/null"))
    assert (again["accepted"], again["planned"]["known"]) == (0, {"accepted": 2})
    assert set(cloud.intune_state()["written"].values()) == {1}


def test_somebody_unknown_or_with_another_primary_address_is_told_before_anything_leaves(
    run: Run, cloud: Cloud, workspace: Workspace
) -> None:
    issued = workspace.authority.issue("carol@example.org", name="Carol")
    (workspace.folder / "certificates" / "carol.pfx").write_bytes(issued.pfx(PASSWORD))
    (workspace.folder / "carol.csv").write_text("email,name,password\ncarol@example.org,Carol," + PASSWORD + "\n")
    cloud.user(
        "carol.new@example.org",
        userPrincipalName="carol@example.org",
        proxyAddresses=["SMTP:carol.new@example.org", "smtp:carol@example.org"],
    )
    told = run("distributor intune import certificates/carol.pfx --roster carol.csv --yes")
    assert told.returncode == 1
    assert 'the primary address of this person is "carol.new@example.org" in the directory' in told.stdout
    assert cloud.intune_state()["records"] == {}


def test_a_person_is_served_by_one_way_unless_both_are_asked_for(run: Run, cloud: Cloud) -> None:
    answer(run(f"{IMPORT} --to alice@example.org --yes --json 2>/dev/null"))
    mailed = answer(run("distributor plan certificates --roster people.csv --json 2>/dev/null"))
    assert mailed["ready"] == 0
    assert {issue["check"] for issue in mailed["issues"]} == {"other-way"}
    assert "is served by Intune" in mailed["issues"][0]["message"]
    both = answer(run("distributor plan certificates --roster people.csv --both --json 2>/dev/null"))
    assert [(row["way"], row["generation"]) for row in both["deliveries"]] == [("mail", 2), ("mail", 2)]
    sent = answer(run("distributor send --yes --json 2>/dev/null"))
    assert sent["accepted"] == 2
    told = run("distributor status")
    assert "next: distributor intune import" in told.stdout  # Bob's
    again = run("distributor resend alice@example.org --reason test --yes")
    assert again.returncode == 1
    assert "add --way mail or --way intune" in again.stdout
    assert run("distributor resend alice@example.org --way intune --reason test --yes").returncode == 0
    (record,) = [id_ for id_, number in cloud.intune_state()["written"].items() if number == 2]
    assert record in {one["id"] for one in cloud.installed()}
    assert run("distributor audit verify").returncode == 0


def test_a_missing_permission_or_licence_stops_the_run_and_nothing_is_lost(run: Run, cloud: Cloud, workspace: Workspace) -> None:
    cloud.intune(licensed=False)
    refused = run(f"{IMPORT} --yes")
    assert refused.returncode == 4, refused.stdout
    assert "grant the app DeviceManagementConfiguration.ReadWrite.All and User.Read.All" in refused.stdout
    cloud.intune(licensed=True)
    assert answer(run("distributor intune import --yes --json 2>/dev/null"))["accepted"] == 2
    assert workspace


def test_a_refusal_without_a_reason_says_what_to_check(run: Run, cloud: Cloud) -> None:
    cloud.intune(keys=[(intune.PROVIDER, "another", intune.private())])
    refused = run(f"{IMPORT} --yes")
    assert refused.returncode == 1
    assert "400 BadRequest: An error has occurred, request-id" in refused.stdout
    assert "`provider`, `key_name` and `padding`" in refused.stdout
    assert "next: distributor status --state rejected" in refused.stdout
    cloud.intune(refusals=[])


def test_an_incident_names_the_record_to_delete_in_intune(run: Run, cloud: Cloud) -> None:
    answer(run(f"{IMPORT} --yes --json 2>/dev/null"))
    record = next(one["id"] for one in cloud.installed() if one["userPrincipalName"] == "alice@example.org")
    told = run("distributor incident alice@example.org --reason 'phone stolen' --yes")
    assert told.returncode == 1
    assert "Intune still gives 1 certificate of this person to devices; delete its record in a new PowerShell window:" in told.stdout
    deleting = next(line.strip() for line in told.stdout.splitlines() if "-Method DELETE" in line)
    assert deleting.startswith("Connect-MgGraph -Scopes DeviceManagementConfiguration.ReadWrite.All")
    assert f"'{record}' | ForEach-Object" in deleting
    again = answer(run("distributor incident alice@example.org --reason 'phone stolen' --yes --json 2>/dev/null"), 1)
    assert [row["intune_record"] for row in again["deliveries"]] == [record]


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        ({"userType": "Guest"}, ""),
        ({"accountEnabled": False}, ""),
        ({"proxyAddresses": []}, ""),  # anybody may fill in `mail`; Exchange's addresses decide
        ({"displayName": "Another"}, "several users of the tenant have this address"),
    ],
)
def test_the_user_of_an_address_is_never_guessed(run: Run, cloud: Cloud, workspace: Workspace, other: dict[str, Any], problem: str) -> None:
    name = next(iter(other)).lower()
    address = f"{name}@example.org"
    cloud.user(address, userPrincipalName=f"other.{address}", **other)
    cloud.user(address)
    (workspace.folder / "certificates" / f"{name}.pfx").write_bytes(workspace.authority.issue(address, name=name).pfx(PASSWORD))
    (workspace.folder / "one.csv").write_text(f"email,name,password\n{address},{name},{PASSWORD}\n")
    told = run(f"distributor intune import certificates/{name}.pfx --roster one.csv --yes")
    assert told.returncode == (1 if problem else 0), told.stdout
    assert problem in told.stdout
    assert [one["userPrincipalName"] for one in cloud.installed()] == ([] if problem else [address])


def test_send_leaves_imports_alone_and_says_how_many_wait(run: Run, cloud: Cloud) -> None:
    cloud.intune(licensed=False)
    assert run(f"{IMPORT} --yes").returncode == 4
    cloud.intune(licensed=True)
    sent = run("distributor send --yes")
    assert "2 certificates for Intune: next: distributor intune import" in sent.stdout
    assert cloud.intune_state()["records"] == {}


def test_the_configuration_is_checked_before_anything_is_planned(run: Run, workspace: Workspace) -> None:
    (workspace.folder / "connector.pub").write_bytes(b"garbage")
    refused = run(f"{IMPORT} --yes")
    assert refused.returncode == 3
    assert "intune.connector.public_key: neither a CNG key blob nor a public key in PEM" in refused.stdout
    (workspace.folder / "connector.pub").unlink()
    assert "Export-IntunePublicKey" in run(f"{IMPORT} --yes").stdout
    config = workspace.folder / "distributor.toml"
    config.write_text(config.read_text(encoding="utf-8").replace("oaepSha512", "oaepSha1"), encoding="utf-8")
    refused = run(f"{IMPORT} --yes")
    assert refused.returncode == 3
    assert "intune.connector.padding" in refused.stdout


def test_doctor_knows_the_connector(run: Run, cloud: Cloud) -> None:
    told = run("distributor doctor")
    assert "the tenant has no certificate connector" in told.stdout
    assert 'the connector\'s key "PFXEncryptionKey" has 2048 bits and the fingerprint' in told.stdout
    cloud.intune(connectors=[{"id": "1", "connectorName": "PKI01", "lastCheckinDateTime": "2026-01-01T00:00:00Z"}])
    assert 'the certificate connector "PKI01" last asked for work on 2026-01-01' in run("distributor doctor").stdout
