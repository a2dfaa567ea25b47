"""A certificate and its key reach one person: the real program when rosters, files, the ledger or the clock change between its commands."""

from __future__ import annotations

import json
import sys
from base64 import encodebytes
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from cryptography import x509

from distributor.ledger.sqlite import sqlite3
from distributor.pki.asn1 import wrap
from tests.authority import Authority, Identity
from tests.pki.spkis import info, reissued
from tests.workspace import PASSWORD, Workspace

pytestmark = pytest.mark.slow(reason="whole commands, several in each; what they rest on is tested beside the ledger and the workflows")

LATER = (
    "import sys; from datetime import timedelta; from distributor import bootstrap; now = bootstrap.now; "
    "bootstrap.now = lambda: now() + timedelta(days=400); from distributor.__main__ import main; main()"
)


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority) -> Iterator[Workspace]:
    """An empty folder of certificates in a workspace, and a server."""
    made = Workspace(tmp_path, authority)
    made.run_script("$ distributor init >/dev/null 2>&1\n+ server\n$ mkdir certificates\n")
    yield made
    made.close()


def put(workspace: Workspace, name: str, identity: Identity) -> None:
    (workspace.folder / "certificates" / f"{name}.pfx").write_bytes(identity.pfx(PASSWORD))
    (workspace.folder / "certificates" / f"{name}.txt").write_text(PASSWORD, encoding="utf-8")


def planned(workspace: Workspace, code: int, *more: str) -> tuple[list[str], list[tuple[str, str, str | None, str]]]:
    """Who is planned, and the errors: check, source, address and message."""
    result = workspace.run(f"distributor plan certificates --json {' '.join(more)} 2>/dev/null")
    assert result.returncode == code, result.stdout
    answer = json.loads(result.stdout)
    errors = [(i["check"], i["source"], i["address"], i["message"]) for i in answer["issues"] if i["severity"] == "error"]
    return [delivery["address"] for delivery in answer["deliveries"]], errors


def recipients(workspace: Workspace) -> list[str]:
    lines = [line for message in workspace.handler.messages for line in message.decode().splitlines()]
    return [line.partition("<")[2].rstrip(">") or line.removeprefix("To: ") for line in lines if line.startswith("To: ")]


def sql(workspace: Workspace, statement: str) -> None:
    with closing(sqlite3.connect(workspace.folder / "distributor.db")) as database, database:
        database.execute(statement)


def test_an_address_that_moved_to_somebody_else_does_not_take_the_key_with_it(workspace: Workspace, authority: Authority) -> None:
    put(workspace, "anna", authority.issue("anna.mueller@example.org", "anna@example.org", name="Anna Mueller"))
    workspace.add_roster("anna.mueller@example.org,Anna_Mueller,en")
    workspace.run("distributor plan certificates --roster people.csv && distributor send --yes")
    assert recipients(workspace) == ["anna.mueller@example.org"]
    workspace.add_roster("anna@example.org,Anna_Schmidt,en")
    workspace.run_script(
        """\
$ distributor plan certificates --roster people.csv
plan (not recorded): 0 ready

error    duplicate  anna.pfx  anna@example.org
         this certificate is accepted for "anna.mueller@example.org" (Anna Mueller) since ...-...-... and cannot be for ... too: ...
         have a certificate with a new key issued for "anna@example.org", also where both are one person with a new address

1 error (duplicate)
correct the errors and plan again; what is ready is not planned twice
? 1
$ distributor send --yes
nothing is due; next: distributor plan
"""
    )
    assert recipients(workspace) == ["anna.mueller@example.org"]


def test_what_was_planned_for_another_and_is_withdrawn_may_be_planned(workspace: Workspace, authority: Authority) -> None:
    put(workspace, "anna", authority.issue("anna.mueller@example.org", "anna@example.org"))
    workspace.add_roster("anna.mueller@example.org,Anna_Mueller,en")
    planned(workspace, 0, "--roster people.csv")
    workspace.add_roster("anna@example.org,Anna_Schmidt,en")
    result = workspace.run("distributor plan certificates --roster people.csv").stdout
    command = next(line for line in result.replace("\n         ", " ").splitlines() if "distributor withdraw" in line)
    workspace.run(command[command.index("distributor withdraw") :].partition("`")[0].replace("TEXT", '"the wrong Anna"'))
    assert planned(workspace, 0, "--roster people.csv") == (["anna@example.org"], [])


def test_two_people_about_one_key_are_both_refused_within_a_plan(workspace: Workspace, authority: Authority) -> None:
    one = authority.issue("alice@example.org")
    put(workspace, "alice", one)
    put(workspace, "bob", authority.issue("bob@example.org", key=one.key))
    put(workspace, "carol", authority.issue("carol@example.org"))
    ready, errors = planned(workspace, 1)
    assert ready == ["carol@example.org"]
    assert [error[:3] for error in errors] == [
        ("duplicate", "alice.pfx", "alice@example.org"),
        ("duplicate", "bob.pfx", "bob@example.org"),
    ]
    assert all("alice@example.org" in error[3] and "bob@example.org" in error[3] for error in errors)


def test_a_key_that_somebody_has_already_is_for_nobody_else_but_may_be_renewed(workspace: Workspace, authority: Authority) -> None:
    one = authority.issue("alice@example.org")
    put(workspace, "alice", one)
    planned(workspace, 0)
    workspace.run("distributor send --yes")
    (workspace.folder / "certificates" / "alice.pfx").unlink()
    put(workspace, "alice-new", authority.issue("alice@example.org", key=one.key))
    put(workspace, "bob", authority.issue("bob@example.org", key=one.key))
    (workspace.folder / "certificates" / "alice.txt").unlink()
    (workspace.folder / "certificates" / "bob.pfx").rename(workspace.folder / "bob.pfx")
    assert planned(workspace, 0)[0] == ["alice@example.org"]
    (workspace.folder / "bob.pfx").rename(workspace.folder / "certificates" / "bob.pfx")
    (workspace.folder / "certificates" / "alice-new.pfx").unlink()
    ready, errors = planned(workspace, 1)
    assert (ready, [error[:3] for error in errors]) == ([], [("duplicate", "bob.pfx", "bob@example.org")])
    assert '"alice@example.org"' in errors[0][3]


def test_a_folded_name_is_somebody_else(workspace: Workspace, authority: Authority) -> None:
    mailbox = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9")
    strauss = x509.OtherName(mailbox, wrap(0x0C, "strauß@example.org".encode()))
    put(workspace, "strauss", authority.issue(name="Strauß", names=[strauss]))
    workspace.add_roster("strauss@example.org,Strauss,en")
    ready, errors = planned(workspace, 1, "--roster people.csv")
    assert ready == []
    assert [error[0] for error in errors] == ["address-mismatch"]
    workspace.add_roster("strauss@example.org,Strauss,en", "strauß@example.org,Strauß,de")
    put(workspace, "other", authority.issue("strauss@example.org"))
    assert sorted(planned(workspace, 0, "--roster people.csv")[0]) == ["strauss@example.org", "strauß@example.org"]


@pytest.mark.parametrize("queued", [False, True], ids=["planned", "queued"])
def test_a_certificate_that_expired_after_it_was_planned_is_not_sent_and_told(
    workspace: Workspace, authority: Authority, *, queued: bool
) -> None:
    put(workspace, "alice", authority.issue("alice@example.org"))
    planned(workspace, 0)
    if queued:
        workspace.run("distributor send --dry-run look")
    result = workspace.run(f"{sys.executable} -c '{LATER}' send --yes --json 2>/dev/null")
    answer = json.loads(result.stdout)
    assert (result.returncode, workspace.handler.messages) == (3, [])
    assert (answer["accepted"], answer["remaining"], answer["withdrawn"]) == (0, 1, 0)  # the clock may be wrong
    later = LATER.replace("days=400", "days=400, hours=7")
    result = workspace.run(f"{sys.executable} -c '{later}' send --yes --json 2>/dev/null")
    answer = json.loads(result.stdout)
    assert (result.returncode, workspace.handler.messages) == (1, [])
    assert (answer["accepted"], answer["remaining"], answer["withdrawn"]) == (0, 0, 1)
    (row,) = answer["deliveries"]
    assert (row["address"], row["state"], row["said"][:27]) == ("alice@example.org", "withdrawn", "the certificate expired on ")
    assert workspace.run(f"{sys.executable} -c '{later}' send --yes").stdout == "nothing is due; next: distributor plan\n"
    assert workspace.run("distributor audit verify").returncode == 0


def test_an_expired_one_is_told_in_words_and_by_a_dry_run(workspace: Workspace, authority: Authority) -> None:
    put(workspace, "alice", authority.issue("alice@example.org"))
    put(workspace, "bob", authority.issue("bob@example.org"))
    planned(workspace, 0)
    for command in ("send --dry-run look", "send --yes"):
        result = workspace.run(f"{sys.executable} -c '{LATER}' {command}")
        assert (result.returncode, workspace.handler.messages) == (3, [])
        assert "alice@example.org: planned: held back: the certificate expired on " in result.stdout
        assert "2 held back: their certificates have expired by this machine's clock, which is days ahead" in result.stdout
    waiting = json.loads(workspace.run("distributor status --json 2>/dev/null").stdout)["deliveries"]
    assert [row["state"] for row in waiting] == ["planned", "planned"]
    later = LATER.replace("days=400", "days=400, hours=7")
    result = workspace.run(f"{sys.executable} -c '{later}' send --dry-run look --limit 1")
    assert result.returncode == 1
    assert "alice@example.org: withdrawn: the certificate expired on " in result.stdout
    assert not list((workspace.folder / "look").iterdir())


def test_a_person_who_was_exchanged_in_the_ledger_gets_nothing(workspace: Workspace, authority: Authority) -> None:
    put(workspace, "alice", authority.issue("alice@example.org"))
    planned(workspace, 0)
    sql(workspace, "UPDATE person SET address = 'eve@example.org', key = 'eve@example.org'")
    result = workspace.run("distributor send --yes")
    assert result.returncode in {1, 3}, result.stdout
    assert "alice@example.org" in result.stdout or "modified outside distributor" in result.stdout
    assert workspace.handler.messages == []


ODD = {
    "pss": ("1.2.840.113549.1.1.10", "id-RSASSA-PSS"),
    "oaep": ("1.2.840.113549.1.1.7", "id-RSAES-OAEP"),
    "unknown": ("1.2.3.4.5", "1.2.3.4.5"),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_key_of_another_kind_is_told_by_its_algorithm(workspace: Workspace, authority: Authority, kind: str) -> None:
    one = authority.issue("alice@example.org")
    algorithm, words = ODD[kind]
    body = encodebytes(reissued(one, authority, info(one.key, algorithm))).decode()
    pem = f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n{one.key_pem().decode()}"
    (workspace.folder / "certificates" / "alice.pem").write_text(pem, encoding="utf-8")
    ready, errors = planned(workspace, 1)
    assert (ready, [error[0] for error in errors]) == ([], ["key-type"])
    assert words in errors[0][3]
