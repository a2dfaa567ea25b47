"""`distributor plan` with `[trust]`: the real program, a collection, and an authority on loopback."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization as ser

from distributor.cli.trust import watch
from distributor.pki import sst
from tests.authority import Authority, Identity, rsa_key
from tests.doubles.pki import CA, Server, root, server, without_chain
from tests.workspace import PASSWORD, Workspace


@pytest.fixture
def site() -> Iterator[Server]:
    with server() as made:
        yield made


@pytest.fixture
def sub(site: Server) -> CA:
    """An authority whose lists are in order."""
    top = root()
    made = top.sub("Mail CA", key=rsa_key(9100), crl=f"{site.url}/top.crl", aia=f"{site.url}/top.cer")
    site.put("/top.crl", top.crl())
    site.put("/sub.crl", made.crl())
    site.put("/sub.cer", made.der)
    return made


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority, sub: CA) -> Iterator[Workspace]:
    """A workspace that trusts the root."""
    made = Workspace(tmp_path, authority)
    made.run_script("$ distributor init >/dev/null 2>&1\n")
    (tmp_path / "collection.sst").write_bytes(sst.write([sub.above[0].der]))
    trust(made)
    yield made
    made.close()


def trust(workspace: Workspace, collection: str = "collection.sst", *, private: bool = True, more: str = "") -> None:
    """`[trust]` as said."""
    config = workspace.folder / "distributor.toml"
    text = config.read_text(encoding="utf-8").partition("\n[trust]")[0]
    table = f'\n[trust]\ncollection = "{collection}"\nprivate_addresses = {str(private).lower()}\n{more}'
    config.write_text(text + table, encoding="utf-8")


def put(workspace: Workspace, name: str, identity: Identity) -> None:
    folder = workspace.folder / "certificates"
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.pfx").write_bytes(identity.pfx(PASSWORD))
    (folder / f"{name}.txt").write_text(PASSWORD, encoding="utf-8")


def plan(workspace: Workspace, code: int, options: str = "") -> dict[str, Any]:
    issue_rows = workspace.run(f"distributor plan certificates --json {options} 2>/dev/null")
    assert issue_rows.returncode == code, issue_rows.stdout
    found: dict[str, Any] = json.loads(issue_rows.stdout)
    return found


def issue_rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    return [(issue["severity"], issue["check"], issue["source"], issue["address"]) for issue in found["issues"]]


def test_what_is_in_order_is_planned_and_the_rest_is_told(workspace: Workspace, sub: CA, site: Server) -> None:
    names = ("good", "fetched", "bad", "gone", "lost")
    people = {name: sub.person(f"{name}@example.org", crl=f"{site.url}/sub.crl", aia=f"{site.url}/sub.cer") for name in names}
    people["fetched"] = without_chain(people["fetched"])
    people["gone"] = sub.person("gone@example.org", crl=f"{site.url}/gone.crl")
    people["lost"] = without_chain(sub.person("lost@example.org", crl=f"{site.url}/sub.crl"))
    people["strange"] = root("Other").sub("Other CA").person("strange@example.org", crl=f"{site.url}/sub.crl")
    site.put("/sub.crl", sub.crl(people["bad"].certificate.serial_number))
    for name, identity in people.items():
        put(workspace, name, identity)
    found = plan(workspace, 1)
    assert [row["address"] for row in found["deliveries"]] == ["fetched@example.org", "good@example.org"]
    assert sorted(issue_rows(found)) == [
        ("error", "chain-incomplete", "lost.pfx", "lost@example.org"),
        ("error", "chain-untrusted", "strange.pfx", "strange@example.org"),
        ("error", "crl-unreachable", "gone.pfx", "gone@example.org"),
        ("error", "revoked", "bad.pfx", "bad@example.org"),
    ]
    assert set(site.asked.values()) == {1}


def test_trust_check_judges_certificates_as_plan_does(workspace: Workspace, sub: CA, site: Server) -> None:
    """The same checks of the same people; what it says of a chain also names what to add."""
    site.put("/sub.cer", sub.der)
    people = {name: sub.person(f"{name}@example.org", crl=f"{site.url}/sub.crl", aia=f"{site.url}/sub.cer") for name in ("good", "bad")}
    people["fetched"] = without_chain(sub.person("fetched@example.org", crl=f"{site.url}/sub.crl", aia=f"{site.url}/sub.cer"))
    people["gone"] = sub.person("gone@example.org", crl=f"{site.url}/gone.crl")
    people["strange"] = root("Other").sub("Other CA").person("strange@example.org", crl=f"{site.url}/sub.crl")
    site.put("/sub.crl", sub.crl(people["bad"].certificate.serial_number))
    for name, identity in people.items():
        put(workspace, name, identity)
    checked = workspace.run("distributor trust check certificates --json 2>/dev/null")
    found = json.loads(checked.stdout)
    of_people = [issue for issue in issue_rows(found) if issue[3]]
    assert (checked.returncode, sorted(of_people)) == (
        1,
        [
            ("error", "crl-unreachable", "gone.pfx", "gone@example.org"),
            ("error", "revoked", "bad.pfx", "bad@example.org"),
        ],
    )
    assert {issue[1] for issue in issue_rows(found) if not issue[3]} == {"chain-incomplete", "chain-untrusted"} & {
        issue[1] for issue in issue_rows(found)
    }
    assert {"revoked", "crl-unreachable", "chain-untrusted"} <= {issue[1] for issue in issue_rows(plan(workspace, 1))}
    whole = {row["source"]: row["complete"] for row in found["at_hand"] if "@" in row["subject"]}
    assert whole == {"good.pfx": True, "fetched.pfx": True, "bad.pfx": False, "gone.pfx": False, "strange.pfx": False}
    quiet = workspace.run("distributor trust check --offline certificates")
    assert "offline: revocation is not checked" in quiet.stdout
    assert "revoked" not in quiet.stdout.replace("revocation", "")


def test_as_warnings_all_but_revocation_let_a_certificate_pass(workspace: Workspace, sub: CA, site: Server) -> None:
    trust(workspace, more='severity = "warning"\n')
    put(workspace, "gone", sub.person("gone@example.org", crl=f"{site.url}/gone.crl"))
    assert issue_rows(plan(workspace, 0)) == [("warning", "crl-unreachable", "gone.pfx", "gone@example.org")]
    bad = sub.person("bad@example.org", crl=f"{site.url}/sub.crl")
    site.put("/sub.crl", sub.crl(bad.certificate.serial_number))
    put(workspace, "bad", bad)
    assert ("error", "revoked", "bad.pfx", "bad@example.org") in issue_rows(plan(workspace, 1))


def test_a_private_address_is_refused_unless_configured(workspace: Workspace, sub: CA, site: Server) -> None:
    trust(workspace, private=False)
    put(workspace, "alice", sub.person("alice@example.org", crl=f"{site.url}/sub.crl"))
    found = plan(workspace, 1)
    assert {issue["check"] for issue in found["issues"]} == {"crl-unreachable"}
    assert "trust.private_addresses" in found["issues"][0]["hint"]
    assert site.asked == {}


def test_offline_says_so_and_asks_nobody(workspace: Workspace, sub: CA, site: Server) -> None:
    put(workspace, "alice", sub.person("alice@example.org", crl=f"{site.url}/gone.crl"))
    put(workspace, "lost", without_chain(sub.person("lost@example.org")))
    result = workspace.run("distributor plan certificates --offline 2>&1 >/dev/null")
    assert result.stdout.startswith("offline: revocation is not checked")
    assert issue_rows(plan(workspace, 1, "--offline"))[0] == ("error", "chain-incomplete", "lost.pfx", "lost@example.org")
    assert site.asked == {}


def test_a_chain_is_looked_at_although_something_else_is_wrong(workspace: Workspace, sub: CA, site: Server) -> None:
    put(workspace, "alice", sub.person("alice@example.org", crl=f"{site.url}/gone.crl", usage=("content_commitment", "crl_sign")))
    put(workspace, "weak", sub.person("weak@example.org", crl=f"{site.url}/gone.crl", key=rsa_key(7, 1024)))
    assert {(check, source) for _, check, source, _ in issue_rows(plan(workspace, 1))} >= {
        ("weak-key", "weak.pfx"),
        ("crl-unreachable", "weak.pfx"),
        ("crl-unreachable", "alice.pfx"),
    }


def test_a_folder_of_pem_is_a_collection_too(workspace: Workspace, sub: CA, site: Server) -> None:
    folder = workspace.folder / "trusted"
    folder.mkdir()
    certificate = sub.above[0].certificate
    (folder / "root.pem").write_bytes(certificate.public_bytes(ser.Encoding.PEM))
    (folder / "sub.cer").write_bytes(sub.der)
    (folder / "notes.txt").write_text("not a certificate", encoding="utf-8")
    trust(workspace, "trusted")
    put(workspace, "alice", without_chain(sub.person("alice@example.org", crl=f"{site.url}/sub.crl")))
    assert issue_rows(plan(workspace, 0)) == []


@pytest.mark.parametrize(("name", "data"), [("none.sst", None), ("bad.sst", b"\0\0\0\0CERTxx"), ("bad.pem", b"text"), ("empty", b"")])
def test_a_collection_that_cannot_be_read_is_a_fault_of_the_configuration(workspace: Workspace, name: str, data: bytes | None) -> None:
    if name == "empty":
        (workspace.folder / name).mkdir()
    elif data is not None:
        (workspace.folder / name).write_bytes(data)
    trust(workspace, name)
    result: subprocess.CompletedProcess[str] = workspace.run("distributor plan certificates")
    assert result.returncode == 3, result.stdout
    (workspace.folder / "certificates").mkdir()
    result = workspace.run("distributor plan certificates")
    assert result.returncode == 3, result.stdout
    assert "trust.collection" in result.stdout
    assert "hint: name a .sst file or a folder of PEM files" in result.stdout


def test_what_is_revoked_later_is_withdrawn_and_shown(
    workspace: Workspace, sub: CA, site: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    alice = sub.person("alice@example.org", crl=f"{site.url}/sub.crl")
    put(workspace, "alice", alice)
    put(workspace, "bob", sub.person("bob@example.org", crl=f"{site.url}/sub.crl", key=rsa_key(8)))
    assert issue_rows(plan(workspace, 0)) == []
    nothing = {"revoked": [], "reinstated": [], "issues": []}
    assert looked(workspace, capsys) == (0, {"schema": "distributor/trust-watch/1", "checked": 2, **nothing})
    site.put("/sub.crl", sub.crl(alice.certificate.serial_number))
    code, found = looked(workspace, capsys)
    assert code == 1
    assert [(row["address"], row["from"], row["to"]) for row in found["revoked"]] == [("alice@example.org", "planned", "withdrawn")]
    status = json.loads(workspace.run("distributor status alice@example.org --json").stdout)
    assert status["deliveries"][0]["said"].startswith("the certificate was revoked (")
    assert workspace.run("distributor audit verify").returncode == 0
    site.put("/sub.crl", 404)
    code, found = looked(workspace, capsys)
    assert (code, [issue["check"] for issue in found["issues"]]) == (1, ["crl-unreachable"])


def looked(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """What the command answers."""
    code = watch(workspace.folder / "distributor.toml", as_json=True)
    return code, json.loads(capsys.readouterr().out)


def test_two_authorities_that_certify_each_other_cost_only_their_own_file(workspace: Workspace, sub: CA, site: Server) -> None:
    one, two = root("One"), root("Two")
    below = one.again(two)
    hostile = below.person("circle@example.org", crl=f"{site.url}/sub.crl")
    put(workspace, "circle", replace(hostile, chain=(below.certificate, two.again(one).certificate)))
    put(workspace, "good", sub.person("good@example.org", crl=f"{site.url}/sub.crl"))
    found = plan(workspace, 1)
    assert [row["address"] for row in found["deliveries"]] == ["good@example.org"]
    assert issue_rows(found) == [("error", "chain-untrusted", "circle.pfx", "circle@example.org")]
    assert "is circular and leads to no root" in found["issues"][0]["message"]
