"""Revocation from end to end: the real program, an authority on loopback whose lists change under it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from distributor.pki import sst
from tests.authority import Authority, Identity
from tests.doubles.pki import CA, Server, root, server
from tests.workspace import PASSWORD, Workspace

pytestmark = pytest.mark.slow(reason="whole commands, several in each; what they rest on is tested beside the ledger and the workflows")


@pytest.fixture
def site() -> Iterator[Server]:
    with server() as made:
        yield made


@pytest.fixture
def ca(site: Server) -> CA:
    made = root()
    site.put("/ca.crl", made.crl())
    return made


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority, ca: CA) -> Iterator[Workspace]:
    """A workspace that trusts the authority."""
    made = Workspace(tmp_path, authority)
    made.run_script("$ distributor init >/dev/null 2>&1\n")
    (tmp_path / "collection.sst").write_bytes(sst.write([ca.der]))
    config = tmp_path / "distributor.toml"
    table = '\n[trust]\ncollection = "collection.sst"\nprivate_addresses = true\n'
    config.write_text(config.read_text(encoding="utf-8") + table, encoding="utf-8")
    yield made
    made.close()


@pytest.fixture
def alice(workspace: Workspace, ca: CA, site: Server) -> Identity:
    """Her PFX lies in certificates/ with its password."""
    made = ca.person("alice@example.org", crl=f"{site.url}/ca.crl")
    folder = workspace.folder / "certificates"
    folder.mkdir()
    (folder / "alice.pfx").write_bytes(made.pfx(PASSWORD))
    (folder / "alice.txt").write_text(PASSWORD, encoding="utf-8")
    return made


def answered(workspace: Workspace, command: str, code: int = 0) -> dict[str, Any]:
    done = workspace.run(f"distributor {command} --json 2>/dev/null")
    assert done.returncode == code, done.stdout
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_message_that_is_unclear_when_its_certificate_is_revoked_is_not_sent_again(
    workspace: Workspace, alice: Identity, ca: CA, site: Server
) -> None:
    workspace.add_faulty_server("DOT:stored-drop:1")
    (delivery,) = answered(workspace, "plan certificates")["deliveries"]
    assert answered(workspace, "send --yes", 1)["ambiguous"] == 1
    site.put("/ca.crl", ca.crl(alice.certificate.serial_number))
    answered(workspace, "trust watch", 1)
    refused = workspace.run(f"distributor resolve {delivery['id']} --again --reason x")
    assert refused.returncode == 1
    assert "the certificate was revoked (" in refused.stdout
    assert f"hint: withdraw the delivery: `distributor withdraw {delivery['id']} --reason TEXT" in refused.stdout
    assert workspace.run(f"distributor withdraw {delivery['id']} --reason revoked").returncode == 0
    planned = answered(workspace, "plan certificates --offline", 1)
    assert (planned["ready"], [issue["check"] for issue in planned["issues"]]) == (0, ["revoked"])
    assert answered(workspace, "send --yes")["accepted"] == 0
    assert workspace.run("distributor audit verify").returncode == 0


def test_a_certificate_that_was_on_hold_is_good_again_everywhere(workspace: Workspace, alice: Identity, ca: CA, site: Server) -> None:
    answered(workspace, "plan certificates")
    site.put("/ca.crl", ca.crl((alice.certificate.serial_number, x509.ReasonFlags.certificate_hold), number=2))
    (struck,) = answered(workspace, "trust watch", 1)["revoked"]
    assert (struck["to"], struck["said"][-9:]) == ("withdrawn", " on hold)")
    site.put("/ca.crl", ca.crl(number=3))
    result = answered(workspace, "trust watch")
    assert [(row["address"], row["said"]) for row in result["reinstated"]] == [
        ("alice@example.org", "the certificate was on hold and is valid again")
    ]
    assert answered(workspace, "plan certificates")["ready"] == 1
    assert workspace.run("distributor audit verify").returncode == 0


def test_a_look_that_could_not_check_anything_says_so_and_fails(workspace: Workspace, alice: Identity, site: Server) -> None:
    assert alice.certificate.serial_number
    answered(workspace, "plan certificates")
    assert answered(workspace, "track")["issues"] == []
    site.put("/ca.crl", 404)
    found = answered(workspace, "track", 1)
    assert [(issue["check"], issue["address"]) for issue in found["issues"]] == [("crl-unreachable", "alice@example.org")]
    result = workspace.run("distributor track")
    assert (result.returncode, "the server responded with 404" in result.stdout) == (1, True)
