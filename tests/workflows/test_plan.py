"""The verb `plan`, with real files, a real roster, real worker processes and the real ledger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from distributor.adapters.rosters import csv
from distributor.adapters.sources import files
from distributor.mail.templates import TemplateRenderer
from distributor.model.certificates import ParsedIdentities, SourceMaterial
from distributor.model.issues import CheckId, Issue, Severity, WorkerFailure
from distributor.model.ports import Ledger
from distributor.model.states import State
from distributor.workers.pool import Workers
from distributor.workflows.plan import PlanResult, plan
from tests.authority import Authority, Identity, rsa_key
from tests.source_files import look
from tests.workflows.inbox import Opening

PASSWORD = "in-comes-a-file"
Planner = Callable[..., PlanResult]


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    folder = tmp_path / "inbox"
    folder.mkdir()
    return folder


@pytest.fixture
def planned(ledger: Ledger, pool: Workers[SourceMaterial, ParsedIdentities], tmp_path: Path, inbox: Path) -> Planner:
    """Plan a folder (or other paths) for a roster written here; the password of every file is the usual one."""

    def run(roster: str | None, *paths: Path, plan_id: str = "p1", passwords: str = "") -> PlanResult:
        people = tmp_path / "people.csv"
        if roster is not None:
            people.write_text(roster, encoding="utf-8")
        words = tmp_path / "passwords.csv"
        words.write_text(passwords or "file,password\n" + "".join(f"{p.name},{PASSWORD}\n" for p in inbox.iterdir()), encoding="utf-8")
        source = files.open(files.Settings(paths or (inbox,), words, base=tmp_path), look)
        who = csv.open(csv.Settings(people)) if roster is not None else None
        return plan(ledger, who, source, pool, plan_id=plan_id, inputs={}, languages=("en",), now=datetime.now(UTC))

    return run


def put(folder: Path, name: str, identity: Identity) -> None:
    (folder / name).write_bytes(identity.pfx(PASSWORD))


def issue_rows(result: PlanResult) -> list[tuple[str, str, str | None, int | None, str | None]]:
    return [(i.severity.value, i.check.value, i.source, i.line, i.address) for i in result.issues]


def addresses(result: PlanResult) -> list[str]:
    return [delivery.address for delivery in result.deliveries]


def test_certificates_go_to_people_by_the_address_in_them(planned: Planner, authority: Authority, inbox: Path) -> None:
    put(inbox, "bob.pfx", authority.issue("alice@example.org"))
    put(inbox, "1234567.p12", authority.issue("bob@example.org"))
    result = planned("email,name\nalice@example.org,Alice\nbob@example.org,Bob\n")
    assert sorted(addresses(result)) == ["alice@example.org", "bob@example.org"]
    assert issue_rows(result) == []


def test_without_a_roster_each_certificate_names_its_person(planned: Planner, authority: Authority, inbox: Path) -> None:
    put(inbox, "a.pfx", authority.issue("alice@example.org", name="Example, Alice"))
    put(inbox, "b.pfx", authority.issue("bob@example.org", "robert@example.org"))
    result = planned(None)
    assert [(d.address, d.name, d.language) for d in result.deliveries] == [("alice@example.org", "Example, Alice", "en")]
    assert issue_rows(result) == [("error", "several-addresses", "b.pfx", None, None)]


def test_a_person_without_a_certificate_is_reported_once_with_the_row(planned: Planner, authority: Authority, inbox: Path) -> None:
    put(inbox, "alice.pfx", authority.issue("alice@example.org"))
    result = planned("email\nalice@example.org\n\nbob@example.org\n")
    assert issue_rows(result) == [("error", "no-certificate", "people.csv", 4, "bob@example.org")]


def test_a_certificate_of_nobody_is_a_warning(planned: Planner, authority: Authority, inbox: Path) -> None:
    put(inbox, "alice.pfx", authority.issue("alice@example.org"))
    put(inbox, "x.pfx", authority.issue("carol@example.org"))
    result = planned("email\nalice@example.org\n")
    assert issue_rows(result) == [("warning", "no-person", "x.pfx", None, "carol@example.org")]
    assert addresses(result) == ["alice@example.org"]


def test_a_row_that_names_another_persons_file_is_a_mismatch_and_nothing_else(planned: Planner, authority: Authority, inbox: Path) -> None:
    put(inbox, "bob.pfx", authority.issue("robert@example.org"))
    result = planned("email,file\nbob@example.org,bob.pfx\n")
    assert issue_rows(result) == [("error", "address-mismatch", "bob.pfx", None, "bob@example.org")]


def test_a_file_named_like_a_person_who_lacks_one_is_a_mismatch_and_nothing_else(
    planned: Planner, authority: Authority, inbox: Path
) -> None:
    put(inbox, "bob.pfx", authority.issue("robert@example.org"))
    result = planned("email\nbob@example.org\n")
    assert issue_rows(result) == [("error", "address-mismatch", "bob.pfx", None, "bob@example.org")]


def test_one_certificate_for_two_people_is_nobodys(planned: Planner, authority: Authority, inbox: Path) -> None:
    put(inbox, "both.pfx", authority.issue("alice@example.org", "bob@example.org"))
    result = planned("email\nalice@example.org\nbob@example.org\n")
    assert issue_rows(result) == [
        ("error", "duplicate", "both.pfx", None, "alice@example.org"),
        ("error", "duplicate", "both.pfx", None, "bob@example.org"),
    ]
    assert addresses(result) == []


def test_the_same_file_twice_is_a_note(planned: Planner, authority: Authority, inbox: Path) -> None:
    identity = authority.issue("alice@example.org")
    put(inbox, "a.pfx", identity)
    (inbox / "b.pfx").write_bytes((inbox / "a.pfx").read_bytes())
    result = planned("email\nalice@example.org\n")
    assert issue_rows(result) == [("note", "duplicate", "b.pfx", None, None)]
    assert addresses(result) == ["alice@example.org"]


def test_a_person_may_have_two_certificates_in_two_rows(planned: Planner, authority: Authority, inbox: Path) -> None:
    put(inbox, "sign.pfx", authority.issue("alice@example.org", usage=("digital_signature",)))
    put(inbox, "encrypt.pfx", authority.issue("alice@example.org", usage=("key_encipherment",), key=rsa_key(1)))
    result = planned("email,file\nalice@example.org,sign.pfx\nalice@example.org,encrypt.pfx\n")
    assert addresses(result) == ["alice@example.org"] * 2
    assert issue_rows(result) == []  # neither lacks the other


def test_a_certificate_for_one_use_is_told_where_the_other_one_is_missing(planned: Planner, authority: Authority, inbox: Path) -> None:
    put(inbox, "sign.pfx", authority.issue("alice@example.org", usage=("digital_signature",)))
    put(
        inbox,
        "encrypt.pfx",
        authority.issue("alice@example.org", usage=("key_encipherment",), key=rsa_key(1), days=1, starts=-timedelta(9)),
    )
    assert [row[:3] for row in issue_rows(planned(None))] == [("error", "expired", "encrypt.pfx"), ("warning", "key-usage", "sign.pfx")]


def test_two_certificates_of_a_person_for_the_same_use_are_noted(planned: Planner, authority: Authority, inbox: Path) -> None:
    put(inbox, "a.pfx", authority.issue("alice@example.org", key=rsa_key(1)))
    put(inbox, "b.pfx", authority.issue("alice@example.org", key=rsa_key(2)))
    put(inbox, "c.pfx", authority.issue("bob@example.org"))
    result = planned(None)
    assert len(result.deliveries) == 3
    assert issue_rows(result) == [("note", "duplicate", "b.pfx", None, "alice@example.org")]


def test_a_language_without_templates_is_noted_once(ledger: Ledger, inbox: Path, authority: Authority, tmp_path: Path) -> None:
    for who in ("alice", "bob", "carol"):
        (inbox / f"{who}.pem").write_bytes((one := authority.issue(f"{who}@example.org")).key_pem() + one.pem)
    people = tmp_path / "people.csv"
    people.write_text("email,language\nalice@example.org,pl\nbob@example.org,pl\ncarol@example.org,de-AT\n")
    result = plan(
        ledger,
        csv.open(csv.Settings(people)),
        files.open(files.Settings((inbox,)), look),
        Opening(),
        plan_id="p1",
        inputs={},
        languages=("en",),
        written_in=TemplateRenderer(None, ("en",)).nearest,
        now=datetime.now(UTC),
    )
    (note,) = result.issues
    assert (note.severity, note.message) == ("note", 'there are no templates for the language "pl": 2 messages will be in "en"')


def test_an_address_in_the_subject_alone_finds_its_person_with_a_warning(planned: Planner, authority: Authority, inbox: Path) -> None:
    mail = x509.NameAttribute(NameOID.EMAIL_ADDRESS, "carol@example.org")
    put(inbox, "carol.pfx", authority.issue(name="Carol", subject=[mail]))
    expected = (["carol@example.org"], [("warning", "no-address", "carol.pfx", None, "carol@example.org")])
    result = planned(None)
    assert (addresses(result), issue_rows(result)) == expected
    assert ("warning", "no-address") in [row[:2] for row in issue_rows(planned("email\ncarol@example.org\n", plan_id="p2"))]


def test_a_certificate_for_a_whole_domain_is_for_nobody(planned: Planner, authority: Authority, inbox: Path) -> None:
    put(inbox, "gateway.pfx", authority.issue("*@example.org", name="Gateway"))
    assert (addresses(result := planned(None)), [row[:2] for row in issue_rows(result)]) == ([], [("error", "bad-address")])


def test_a_file_with_two_peoples_identities_is_split(planned: Planner, authority: Authority, inbox: Path) -> None:
    alice, bob = authority.issue("alice@example.org"), authority.issue("bob@example.org", key=rsa_key(1))
    (inbox / "both.pem").write_bytes(alice.pem + alice.key_pem() + bob.pem + bob.key_pem())
    result = planned("email,file\nalice@example.org,both.pem\nbob@example.org,\n")
    assert sorted(addresses(result)) == ["alice@example.org", "bob@example.org"]
    assert issue_rows(result) == []


def test_rows_that_contradict_each_other_get_nothing(planned: Planner, authority: Authority, inbox: Path) -> None:
    put(inbox, "a.pfx", authority.issue("alice@example.org"))
    result = planned("email,name\nalice@example.org,Alice\nALICE@example.org,Alicia\n")
    assert ("error", "duplicate", "people.csv", 3, "ALICE@example.org") in issue_rows(result)
    assert addresses(result) == []


def test_a_repeated_row_is_a_note(planned: Planner, authority: Authority, inbox: Path) -> None:
    put(inbox, "a.pfx", authority.issue("alice@example.org"))
    result = planned("email,name\nalice@example.org,Alice\nalice@example.org,Alice\n")
    assert issue_rows(result) == [("note", "duplicate", "people.csv", 3, "alice@example.org")]
    assert addresses(result) == ["alice@example.org"]


def test_rows_that_differ_in_case_only_repeat_each_other(planned: Planner, authority: Authority, inbox: Path) -> None:
    put(inbox, "a.pfx", authority.issue("alice@example.org"))
    result = planned("email,name\nalice@example.org,Alice\nAlice@EXAMPLE.org,Alice\n")
    assert issue_rows(result) == [("note", "duplicate", "people.csv", 3, "Alice@example.org")]
    assert addresses(result) == ["alice@example.org"]


def test_what_is_planned_already_is_a_note(planned: Planner, authority: Authority, inbox: Path) -> None:
    put(inbox, "a.pfx", authority.issue("alice@example.org"))
    planned("email\nalice@example.org\n")
    again = planned("email\nalice@example.org\n", plan_id="p2")
    assert issue_rows(again) == [("note", "already-sent", "a.pfx", None, "alice@example.org")]
    assert list(again.deliveries) == []
    assert again.known == {State.PLANNED: 1}


def test_a_bad_file_beside_good_ones_costs_only_itself(planned: Planner, authority: Authority, inbox: Path) -> None:
    put(inbox, "a.pfx", authority.issue("alice@example.org"))
    (inbox / "b.pfx").write_bytes(b"\x30\x82garbage")
    (inbox / "c.pfx").write_bytes(authority.issue("carol@example.org").pfx("another"))
    result = planned("email,file\nalice@example.org,\ncarol@example.org,inbox/c.pfx\n")
    assert addresses(result) == ["alice@example.org"]
    assert issue_rows(result) == [
        ("error", "wrong-password", "c.pfx", None, "carol@example.org"),
        ("error", "unreadable", "b.pfx", None, None),
    ]


def test_a_row_whose_file_is_not_there_says_so_instead_of_no_certificate(planned: Planner) -> None:
    result = planned("email,file\nalice@example.org,alice.pfx\n")
    assert issue_rows(result) == [("error", "no-certificate", "people.csv", 2, "alice@example.org")]
    assert '"alice.pfx" was not found' in result.issues[0].message


def test_a_failed_child_is_told_as_what_it_means(ledger: Ledger, authority: Authority, inbox: Path) -> None:
    put(inbox, "a.pfx", authority.issue("alice@example.org"))

    class Slow:
        def map(self, jobs: Iterator[SourceMaterial]) -> Iterator[tuple[SourceMaterial, WorkerFailure]]:
            return ((job, WorkerFailure("time")) for job in jobs)

    source = files.open(files.Settings((inbox,)), look)
    result = plan(ledger, None, source, Slow(), plan_id="p", inputs={}, languages=("en",), now=datetime.now(UTC))  # type: ignore[arg-type]  # a double
    assert [(issue.severity, issue.check) for issue in result.issues] == [(Severity.ERROR, CheckId.TOO_COSTLY)]


def test_only_errors_keep_a_delivery_out(planned: Planner, authority: Authority, inbox: Path) -> None:
    put(inbox, "soon.pfx", authority.issue("alice@example.org", days=20))
    put(inbox, "late.pfx", authority.issue("bob@example.org", days=5, starts=timedelta(days=-30)))
    result = planned("email\nalice@example.org\nbob@example.org\n")
    assert addresses(result) == ["alice@example.org"]
    assert {(severity, check) for severity, check, *_ in issue_rows(result)} == {("warning", "expires-soon"), ("error", "expired")}


def test_the_file_of_an_issue_is_shown_escaped(planned: Planner, inbox: Path) -> None:
    (inbox / "evil\x1b[2J.pfx").write_bytes(b"x")
    issues: tuple[Issue, ...] = planned("email\nalice@example.org\n").issues
    assert "evil\\x1b[2J.pfx" in [issue.source for issue in issues]
