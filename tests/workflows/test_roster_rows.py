"""What a row of the roster says counts: the file it names and no other, the password it names, and that its person is known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from distributor.model.issues import CheckedChain, CheckId, Issue, Severity
from tests.authority import Authority, Identity, rsa_key
from tests.workflows import outbox
from tests.workflows.inbox import Inbox, addresses, issue_rows

BOB = "bob@example.org"


@pytest.fixture(scope="module")
def alice(authority: Authority) -> Identity:
    return authority.issue("alice@example.org")


@pytest.fixture(scope="module")
def bob(authority: Authority) -> Identity:
    return authority.issue(BOB, key=rsa_key(1))


@pytest.fixture
def inbox(tmp_path: Path, alice: Identity, bob: Identity) -> Iterator[Inbox]:
    ledger = outbox.new_ledger(tmp_path / "ledger.db")
    made = Inbox(tmp_path, ledger)
    made.put("alice.pfx", alice)
    made.put("bob.pfx", bob)
    yield made
    assert ledger.verify() == []
    ledger.close()


# --- a file that a row names and that cannot be used ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "check", "hint"),
    [
        ("../../etc/passwd,", "unsafe-path", 'or name "bob.pfx"'),
        ("gone.pfx,", "no-certificate", 'or name "bob.pfx"'),
        ("bob.pfx,gone.txt", "wrong-password", "correct the file name in the row"),
        ("bob.pfx,../gone.txt", "unsafe-path", "give a path in or below the roster's folder"),
    ],
)
def test_a_row_whose_file_is_of_no_use_gets_no_other_file(inbox: Inbox, cells: str, check: str, hint: str) -> None:
    result = inbox.plan(f"email,file,password_file\nalice@example.org,,\n{BOB},{cells}\n")
    assert issue_rows(result) == [("error", check, "people.csv", 3, BOB)]
    assert hint in str(result.issues[0].hint)
    assert addresses(result) == ["alice@example.org"]


def test_two_rows_that_name_each_other_s_files_are_two_mismatches_and_no_delivery(inbox: Inbox) -> None:
    result = inbox.plan(f"email,file\nalice@example.org,bob.pfx\n{BOB},alice.pfx\n")
    assert issue_rows(result) == [
        ("error", "address-mismatch", "bob.pfx", None, "alice@example.org"),
        ("error", "address-mismatch", "alice.pfx", None, BOB),
    ]
    assert [str(issue.hint).rpartition("; ")[2] for issue in result.issues] == [
        "people.csv line 2 names this file",
        "people.csv line 3 names this file",
    ]
    assert addresses(result) == []


def test_an_expired_certificate_that_a_row_names_is_not_replaced_by_another(inbox: Inbox, authority: Authority) -> None:
    inbox.put("old.pfx", authority.issue(BOB, key=rsa_key(2), days=0))
    result = inbox.plan(f"email,file\n{BOB},old.pfx\nalice@example.org,\n")
    assert issue_rows(result) == [("error", "expired", "old.pfx", None, BOB)]
    assert addresses(result) == ["alice@example.org"]


def test_a_file_that_is_no_certificate_is_an_error_when_a_row_names_it(inbox: Inbox) -> None:
    (inbox.folder / "notes.md").write_text("hello")
    result = inbox.plan(f"email,file\n{BOB},notes.md\nalice@example.org,\n")
    assert issue_rows(result) == [("error", "unreadable", "notes.md", None, BOB)]
    assert "people.csv line 2 names this file" in str(result.issues[0].hint)
    assert addresses(result) == ["alice@example.org"]


class Revoking:
    """A checker that finds one certificate revoked."""

    def __init__(self, leaf: bytes) -> None:
        self._leaf = leaf

    def begin(self, leaf: bytes, chain: Sequence[bytes]) -> None:
        pass

    def check(self, leaf: bytes, chain: Sequence[bytes]) -> CheckedChain:  # noqa: ARG002  the port's arguments
        return CheckedChain([Issue(Severity.ERROR, CheckId.REVOKED, "revoked")] if leaf == self._leaf else [])


def test_a_revoked_certificate_that_a_row_names_is_not_replaced_by_another(inbox: Inbox, authority: Authority) -> None:
    revoked = authority.issue(BOB, key=rsa_key(2))
    inbox.put("new.pfx", revoked)
    result = inbox.plan(f"email,file\n{BOB},new.pfx\nalice@example.org,\n", checker=Revoking(revoked.der))
    assert issue_rows(result) == [("error", "revoked", "new.pfx", None, BOB)]
    assert addresses(result) == ["alice@example.org"]


def test_a_second_row_names_a_second_file_and_stands_for_itself(inbox: Inbox) -> None:
    result = inbox.plan(f"email,file\n{BOB},gone.pfx\n{BOB},bob.pfx\nalice@example.org,\n")
    assert issue_rows(result) == [("error", "no-certificate", "people.csv", 2, BOB)]
    assert sorted(addresses(result)) == ["alice@example.org", BOB]


def test_beside_a_good_file_that_a_row_names_another_certificate_goes_too(inbox: Inbox, authority: Authority) -> None:
    inbox.put("more.pfx", authority.issue(BOB, key=rsa_key(2)))
    result = inbox.plan(f"email,file\n{BOB},bob.pfx\nalice@example.org,\n")
    assert (sorted(addresses(result)), issue_rows(result)) == (
        ["alice@example.org", BOB, BOB],
        [("note", "duplicate", "more.pfx", None, BOB)],
    )


def test_two_people_whose_rows_name_one_file_of_both_get_their_own(inbox: Inbox, alice: Identity, bob: Identity) -> None:
    for path in inbox.folder.iterdir():
        path.unlink()
    (inbox.folder / "both.pem").write_bytes(alice.pem + alice.key_pem() + bob.pem + bob.key_pem())
    result = inbox.plan(f"email,file\nalice@example.org,both.pem\n{BOB},both.pem\n")
    assert (sorted(addresses(result)), issue_rows(result)) == (["alice@example.org", BOB], [])


# --- passwords -----------------------------------------------------------------------------------------------------------


def test_a_password_file_is_known_by_its_name_beside_the_certificate_too(inbox: Inbox) -> None:
    (inbox.folder / "bob.txt").rename(inbox.folder / "pin-of-bob.txt")
    result = inbox.plan(f"email,file,password_file\n{BOB},inbox/bob.pfx,C:\\pins\\pin-of-bob.txt\nalice@example.org,,\n")
    assert (sorted(addresses(result)), issue_rows(result)) == (["alice@example.org", BOB], [])


def test_a_password_file_that_a_row_names_is_not_told_to_be_left_alone(inbox: Inbox) -> None:
    (inbox.folder / "bob.txt").rename(inbox.folder / "bob.pin")
    result = inbox.plan(f"email,file,password_file\n{BOB},bob.pfx,bob.pin\nalice@example.org,,\n")
    assert (sorted(addresses(result)), list(result.left)) == (["alice@example.org", BOB], [])


def test_a_password_that_cannot_be_read_is_told_instead_of_none(inbox: Inbox) -> None:
    (inbox.folder / "bob.txt").unlink()
    passwords = inbox.base / "passwords"
    passwords.mkdir()
    (passwords / "bob.txt").mkdir()
    result = inbox.plan(None, passwords=passwords)
    assert issue_rows(result) == [("error", "wrong-password", "bob.pfx", None, None)]
    assert result.issues[0].message == 'its password file "bob.txt" cannot be read: not a regular file'
    assert addresses(result) == ["alice@example.org"]


def test_a_password_that_cannot_be_read_does_not_matter_where_another_opens_the_file(inbox: Inbox) -> None:
    passwords = inbox.base / "passwords"
    passwords.mkdir()
    (passwords / "bob.txt").mkdir()
    result = inbox.plan(None, passwords=passwords)
    assert (sorted(addresses(result)), issue_rows(result)) == (["alice@example.org", BOB], [])


# --- people whose rows were refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "rows",
    [f"{BOB},Bob\n{BOB},Robert\n", f"alice@example.org,Alice\n{BOB},Bob,more\n", f"alice@example.org,Alice\nBob <{BOB}>,Bob\n"],
    ids=["contradicting", "too-long", "no-address"],
)
def test_a_person_whose_row_was_refused_is_still_known_to_be_on_the_roster(inbox: Inbox, rows: str) -> None:
    result = inbox.plan(f"email,name\n{rows}")
    (found,) = (issue for issue in result.issues if issue.source == "bob.pfx")
    assert (found.severity, found.check, found.hint) == ("warning", "no-person", "correct people.csv line 3")
    assert "who is on the roster, but the row cannot be used" in found.message
    assert BOB not in addresses(result)


# --- what is no certificate, and nothing at all ----------------------------------------------------------------------------


def test_what_lies_there_and_is_no_certificate_is_left_alone_without_a_finding(inbox: Inbox) -> None:
    (inbox.folder / "README.md").write_text("hello")
    (inbox.folder / "deeper").mkdir()
    result = inbox.plan()
    assert (sorted(addresses(result)), issue_rows(result)) == (["alice@example.org", BOB], [])
    assert [issue.source for issue in result.left] == ["deeper", "README.md"]


def test_a_file_that_is_no_certificate_is_an_error_when_it_is_named_by_itself(inbox: Inbox) -> None:
    (inbox.base / "README.md").write_text("hello")
    result = inbox.plan(None, inbox.folder, inbox.base / "README.md")
    assert issue_rows(result) == [("error", "unreadable", "README.md", None, None)]


def test_a_roster_without_a_row_is_told_from_certificates_without_a_person(inbox: Inbox) -> None:
    assert inbox.plan("email,name\n").nobody == "roster"
    assert inbox.plan("email,name\ncarol@example.org,Carol\n").nobody is None
    assert inbox.plan("email,name\ncarol,Carol\n").nobody is None


def test_where_nothing_is_planned_no_plan_is_recorded(inbox: Inbox) -> None:
    result = inbox.plan("email\ncarol@example.org\n")
    assert (result.recorded, inbox.ledger.plan_inputs(result.plan)) == (False, None)
    result = inbox.plan()
    assert (result.recorded, inbox.ledger.plan_inputs(result.plan)) == (True, {})
