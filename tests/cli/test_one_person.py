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
from tests.stage import PASSWORD, Stage

pytestmark = pytest.mark.slow(reason="whole commands, several in each; what they rest on is tested beside the ledger and the workflows")

LATER = (
    "import sys; from datetime import timedelta; from distributor import bootstrap; now = bootstrap.now; "
    "bootstrap.now = lambda: now() + timedelta(days=400); from distributor.__main__ import main; main()"
)


@pytest.fixture
def stage(tmp_path: Path, authority: Authority) -> Iterator[Stage]:
    """An empty folder of certificates in a workspace, and a server."""
    made = Stage(tmp_path, authority)
    made.play("$ distributor init >/dev/null 2>&1\n+ server\n$ mkdir certificates\n")
    yield made
    made.close()


def put(stage: Stage, name: str, identity: Identity) -> None:
    (stage.folder / "certificates" / f"{name}.pfx").write_bytes(identity.pfx(PASSWORD))
    (stage.folder / "certificates" / f"{name}.txt").write_text(PASSWORD, encoding="utf-8")


def planned(stage: Stage, code: int, *more: str) -> tuple[list[str], list[tuple[str, str, str | None, str]]]:
    """Who is planned, and the errors: check, source, address and message."""
    told = stage.run(f"distributor plan certificates --json {' '.join(more)} 2>/dev/null")
    assert told.returncode == code, told.stdout
    answer = json.loads(told.stdout)
    errors = [(i["check"], i["source"], i["address"], i["message"]) for i in answer["issues"] if i["severity"] == "error"]
    return [delivery["address"] for delivery in answer["deliveries"]], errors


def recipients(stage: Stage) -> list[str]:
    lines = [line for message in stage.handler.messages for line in message.decode().splitlines()]
    return [line.partition("<")[2].rstrip(">") or line.removeprefix("To: ") for line in lines if line.startswith("To: ")]


def sql(stage: Stage, statement: str) -> None:
    with closing(sqlite3.connect(stage.folder / "distributor.db")) as database, database:
        database.execute(statement)


def test_an_address_that_moved_to_somebody_else_does_not_take_the_key_with_it(stage: Stage, authority: Authority) -> None:
    put(stage, "anna", authority.issue("anna.mueller@example.org", "anna@example.org", name="Anna Mueller"))
    stage.prop_roster("anna.mueller@example.org,Anna_Mueller,en")
    stage.run("distributor plan certificates --roster people.csv && distributor send --yes")
    assert recipients(stage) == ["anna.mueller@example.org"]
    stage.prop_roster("anna@example.org,Anna_Schmidt,en")
    stage.play(
        """\
$ distributor plan certificates --roster people.csv
plan (not recorded): 0 ready

error    duplicate  anna.pfx  anna@example.org
         this certificate is accepted for "anna.mueller@example.org" (Anna Mueller) since ...-...-... and cannot be for ... too: ...
         have a certificate with a new key issued for "anna@example.org", also where both are one person with a new address

1 error: correct them and plan again; what is ready is not planned twice
? 1
$ distributor send --yes
nothing is due; next: distributor plan
"""
    )
    assert recipients(stage) == ["anna.mueller@example.org"]


def test_what_was_planned_for_another_and_is_withdrawn_may_be_planned(stage: Stage, authority: Authority) -> None:
    put(stage, "anna", authority.issue("anna.mueller@example.org", "anna@example.org"))
    stage.prop_roster("anna.mueller@example.org,Anna_Mueller,en")
    planned(stage, 0, "--roster people.csv")
    stage.prop_roster("anna@example.org,Anna_Schmidt,en")
    told = stage.run("distributor plan certificates --roster people.csv").stdout
    command = next(line for line in told.replace("\n         ", " ").splitlines() if "distributor withdraw" in line)
    stage.run(command[command.index("distributor withdraw") :].replace("TEXT", '"the wrong Anna"'))
    assert planned(stage, 0, "--roster people.csv") == (["anna@example.org"], [])


def test_two_people_about_one_key_are_both_refused_within_a_plan(stage: Stage, authority: Authority) -> None:
    one = authority.issue("alice@example.org")
    put(stage, "alice", one)
    put(stage, "bob", authority.issue("bob@example.org", key=one.key))
    put(stage, "carol", authority.issue("carol@example.org"))
    ready, errors = planned(stage, 1)
    assert ready == ["carol@example.org"]
    assert [error[:3] for error in errors] == [
        ("duplicate", "alice.pfx", "alice@example.org"),
        ("duplicate", "bob.pfx", "bob@example.org"),
    ]
    assert all("alice@example.org" in error[3] and "bob@example.org" in error[3] for error in errors)


def test_a_key_that_somebody_has_already_is_for_nobody_else_but_may_be_renewed(stage: Stage, authority: Authority) -> None:
    one = authority.issue("alice@example.org")
    put(stage, "alice", one)
    planned(stage, 0)
    stage.run("distributor send --yes")
    (stage.folder / "certificates" / "alice.pfx").unlink()
    put(stage, "alice-new", authority.issue("alice@example.org", key=one.key))
    put(stage, "bob", authority.issue("bob@example.org", key=one.key))
    (stage.folder / "certificates" / "alice.txt").unlink()
    (stage.folder / "certificates" / "bob.pfx").rename(stage.folder / "bob.pfx")
    assert planned(stage, 0)[0] == ["alice@example.org"]
    (stage.folder / "bob.pfx").rename(stage.folder / "certificates" / "bob.pfx")
    (stage.folder / "certificates" / "alice-new.pfx").unlink()
    ready, errors = planned(stage, 1)
    assert (ready, [error[:3] for error in errors]) == ([], [("duplicate", "bob.pfx", "bob@example.org")])
    assert '"alice@example.org"' in errors[0][3]


def test_a_folded_name_is_somebody_else(stage: Stage, authority: Authority) -> None:
    mailbox = x509.ObjectIdentifier("1.3.6.1.5.5.7.8.9")
    strauss = x509.OtherName(mailbox, wrap(0x0C, "strauß@example.org".encode()))
    put(stage, "strauss", authority.issue(name="Strauß", names=[strauss]))
    stage.prop_roster("strauss@example.org,Strauss,en")
    ready, errors = planned(stage, 1, "--roster people.csv")
    assert ready == []
    assert [error[0] for error in errors] == ["address-mismatch"]
    stage.prop_roster("strauss@example.org,Strauss,en", "strauß@example.org,Strauß,de")
    put(stage, "other", authority.issue("strauss@example.org"))
    assert sorted(planned(stage, 0, "--roster people.csv")[0]) == ["strauss@example.org", "strauß@example.org"]


@pytest.mark.parametrize("queued", [False, True], ids=["planned", "queued"])
def test_a_certificate_that_expired_after_it_was_planned_is_not_sent_and_told(stage: Stage, authority: Authority, *, queued: bool) -> None:
    put(stage, "alice", authority.issue("alice@example.org"))
    planned(stage, 0)
    if queued:
        stage.run("distributor send --dry-run look")
    told = stage.run(f"{sys.executable} -c '{LATER}' send --yes --json 2>/dev/null")
    answer = json.loads(told.stdout)
    assert (told.returncode, stage.handler.messages) == (3, [])
    assert (answer["accepted"], answer["remaining"], answer["withdrawn"]) == (0, 1, 0)  # the clock may be wrong
    later = LATER.replace("days=400", "days=400, hours=7")
    told = stage.run(f"{sys.executable} -c '{later}' send --yes --json 2>/dev/null")
    answer = json.loads(told.stdout)
    assert (told.returncode, stage.handler.messages) == (1, [])
    assert (answer["accepted"], answer["remaining"], answer["withdrawn"]) == (0, 0, 1)
    (row,) = answer["deliveries"]
    assert (row["address"], row["state"], row["said"][:27]) == ("alice@example.org", "withdrawn", "the certificate expired on ")
    assert stage.run(f"{sys.executable} -c '{later}' send --yes").stdout == "nothing is due; next: distributor plan\n"
    assert stage.run("distributor audit verify").returncode == 0


def test_an_expired_one_is_told_in_words_and_by_a_dry_run(stage: Stage, authority: Authority) -> None:
    put(stage, "alice", authority.issue("alice@example.org"))
    put(stage, "bob", authority.issue("bob@example.org"))
    planned(stage, 0)
    for command in ("send --dry-run look", "send --yes"):
        told = stage.run(f"{sys.executable} -c '{LATER}' {command}")
        assert (told.returncode, stage.handler.messages) == (3, [])
        assert "alice@example.org: planned: held back: the certificate expired on " in told.stdout
        assert "2 held back: the certificate has expired by the clock, which jumped by days" in told.stdout
    waiting = json.loads(stage.run("distributor status --json 2>/dev/null").stdout)["deliveries"]
    assert [row["state"] for row in waiting] == ["planned", "planned"]
    later = LATER.replace("days=400", "days=400, hours=7")
    told = stage.run(f"{sys.executable} -c '{later}' send --dry-run look --limit 1")
    assert told.returncode == 1
    assert "alice@example.org: withdrawn: the certificate expired on " in told.stdout
    assert not list((stage.folder / "look").iterdir())


def test_a_person_who_was_exchanged_in_the_ledger_gets_nothing(stage: Stage, authority: Authority) -> None:
    put(stage, "alice", authority.issue("alice@example.org"))
    planned(stage, 0)
    sql(stage, "UPDATE person SET address = 'eve@example.org', key = 'eve@example.org'")
    told = stage.run("distributor send --yes")
    assert told.returncode in {1, 3}, told.stdout
    assert "alice@example.org" in told.stdout or "changed from outside" in told.stdout
    assert stage.handler.messages == []


ODD = {
    "pss": ("1.2.840.113549.1.1.10", "id-RSASSA-PSS"),
    "oaep": ("1.2.840.113549.1.1.7", "id-RSAES-OAEP"),
    "unknown": ("1.2.3.4.5", "1.2.3.4.5"),
}


@pytest.mark.parametrize("kind", ODD)
def test_a_key_of_another_kind_is_told_by_its_algorithm(stage: Stage, authority: Authority, kind: str) -> None:
    one = authority.issue("alice@example.org")
    algorithm, words = ODD[kind]
    body = encodebytes(reissued(one, authority, info(one.key, algorithm))).decode()
    pem = f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n{one.key_pem().decode()}"
    (stage.folder / "certificates" / "alice.pem").write_text(pem, encoding="utf-8")
    ready, errors = planned(stage, 1)
    assert (ready, [error[0] for error in errors]) == ([], ["key-type"])
    assert words in errors[0][3]
