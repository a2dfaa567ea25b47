"""Roster, directory and certificate compared with each other: what `plan` says, with real files and the real ledger."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from distributor.adapters.rosters import csv
from distributor.adapters.sources import files
from distributor.model.certificates import ParsedIdentities, SourceMaterial
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import Address, DirectoryUser, Person, parse_address
from distributor.model.ports import Ledger
from distributor.workers.pool import Workers
from distributor.workflows.plan import PlanResult, plan
from distributor.workflows.roster import gather
from tests.authority import Authority
from tests.source_files import look

PASSWORD = "in-comes-a-file"
ALIAS = "a.example@example.org"
Planner = Callable[..., PlanResult]


class FakeDirectory:
    """A directory that is a list of what it says; it is asked once."""

    def __init__(self, entries: Sequence[DirectoryUser | Issue], *, whole: bool = False) -> None:
        self._entries, self.is_full_directory, self.asked = entries, whole, 0

    def entries(self) -> Iterator[DirectoryUser | Issue]:
        self.asked += 1
        yield from self._entries


def user(address: str, *others: str, enabled: bool = True, proved: bool = True, **more: str) -> DirectoryUser:
    primary = parse_address(address)
    assert isinstance(primary, Address)
    return DirectoryUser(Person(primary, **more), enabled, others, proved)


@pytest.fixture
def planned(ledger: Ledger, pool: Workers[SourceMaterial, ParsedIdentities], authority: Authority, tmp_path: Path) -> Planner:
    """Plan certificates for addresses (a text may hold several), named 1.pfx and so on, for a directory and perhaps a roster."""

    def run(directory: FakeDirectory, *certificates: str, roster: str | None = None) -> PlanResult:
        inbox = tmp_path / "inbox"
        inbox.mkdir()
        for number, names in enumerate(certificates, 1):
            (inbox / f"{number}.pfx").write_bytes(authority.issue(*names.split()).pfx(PASSWORD))
            (inbox / f"{number}.txt").write_text(PASSWORD, encoding="utf-8")
        people = tmp_path / "people.csv"
        people.write_text(roster or "", encoding="utf-8")
        source = files.open(files.Settings((inbox,), base=tmp_path), look)
        who = csv.open(csv.Settings(people)) if roster is not None else None
        now = datetime.now(UTC)
        result = plan(ledger, who, source, pool, plan_id="p", inputs={}, languages=("en",), now=now, directory=directory)
        assert directory.asked == 1
        return result

    return run


def issue_rows(result: PlanResult) -> list[tuple[str, str, str | None, int | None, str | None]]:
    return [(i.severity.value, i.check.value, i.source, i.line, i.address) for i in result.issues]


def addresses(result: PlanResult) -> list[str]:
    return [delivery.address for delivery in result.deliveries]


# --- a roster, compared with the directory -------------------------------------------------------------------------------


def test_who_is_in_roster_directory_and_certificate_alike_is_planned_without_a_word(planned: Planner) -> None:
    result = planned(FakeDirectory([user("alice@example.org")]), "alice@example.org", roster="email\nalice@example.org\n")
    assert (addresses(result), issue_rows(result)) == (["alice@example.org"], [])


def test_who_is_gone_from_the_directory_is_a_warning_with_the_row(planned: Planner) -> None:
    result = planned(FakeDirectory([user("bob@example.org")]), "alice@example.org", roster="email\nalice@example.org\n")
    assert issue_rows(result) == [("warning", "no-person", "people.csv", 2, "alice@example.org")]
    assert "not in the directory" in result.issues[0].message
    assert addresses(result) == ["alice@example.org"]


def test_no_key_goes_to_a_disabled_account(planned: Planner) -> None:
    entries = [user("alice@example.org", enabled=False), user("bob@example.org")]
    roster = "email\nalice@example.org\nbob@example.org\n"
    result = planned(FakeDirectory(entries), "alice@example.org", "bob@example.org", roster=roster)
    assert issue_rows(result) == [("error", "no-person", "people.csv", 2, "alice@example.org")]
    assert "disabled" in result.issues[0].message
    assert addresses(result) == ["bob@example.org"]


def test_a_row_with_an_alias_is_a_mismatch_that_names_the_primary_address(planned: Planner) -> None:
    directory = FakeDirectory([user("alice@example.org", ALIAS)])
    result = planned(directory, "alice@example.org", roster=f"email\n{ALIAS}\n")
    assert issue_rows(result) == [("error", "address-mismatch", "people.csv", 2, ALIAS)]
    assert '"alice@example.org"' in result.issues[0].message
    assert "Outlook hides" in (result.issues[0].hint or "")
    assert addresses(result) == []


def test_an_alias_in_row_and_certificate_is_wrong_in_both(planned: Planner) -> None:
    result = planned(FakeDirectory([user("alice@example.org", ALIAS)]), ALIAS, roster=f"email\n{ALIAS}\n")
    assert issue_rows(result) == [
        ("error", "address-mismatch", "people.csv", 2, ALIAS),
        ("error", "address-mismatch", "1.pfx", None, ALIAS),
    ]
    assert all('"alice@example.org"' in issue.message for issue in result.issues)
    assert addresses(result) == []


@pytest.mark.parametrize("row", ["alice@example.org,", "alice@example.org,1.pfx"])
def test_a_certificate_for_an_alias_is_a_mismatch_and_nothing_else(planned: Planner, row: str) -> None:
    result = planned(FakeDirectory([user("alice@example.org", ALIAS)]), ALIAS, roster=f"email,file\n{row}\n")
    assert issue_rows(result) == [("error", "address-mismatch", "1.pfx", None, "alice@example.org")]
    assert f'for "{ALIAS}", not for "alice@example.org"' in result.issues[0].message


def test_an_alias_beside_the_primary_address_in_a_certificate_does_no_harm(planned: Planner) -> None:
    directory = FakeDirectory([user("alice@example.org", ALIAS)])
    result = planned(directory, f"{ALIAS} alice@example.org", roster="email\nalice@example.org\n")
    assert (addresses(result), issue_rows(result)) == (["alice@example.org"], [])


def test_a_second_row_with_an_alias_takes_nothing_from_the_first(planned: Planner) -> None:
    roster = f"email\n{ALIAS}\nalice@example.org\n"
    result = planned(FakeDirectory([user("alice@example.org", ALIAS)]), f"{ALIAS} alice@example.org", roster=roster)
    assert issue_rows(result) == [("error", "address-mismatch", "people.csv", 2, ALIAS)]
    assert addresses(result) == ["alice@example.org"]


def test_a_certificate_that_a_disabled_person_shares_goes_to_nobody(planned: Planner) -> None:
    entries = [user("alice@example.org"), user("bob@example.org", enabled=False)]
    result = planned(FakeDirectory(entries), "alice@example.org bob@example.org", roster="email\nalice@example.org\nbob@example.org\n")
    assert addresses(result) == []


def test_another_person_s_certificate_is_not_blamed_on_whom_an_alias_clashes_with(planned: Planner) -> None:
    directory = FakeDirectory([user("alice@example.org", "bob@example.org"), user("bob@example.org")])
    result = planned(directory, "alice@example.org", "bob@example.org", roster="email\nbob@example.org\n")
    assert issue_rows(result) == [("warning", "no-person", "1.pfx", None, "alice@example.org")]
    assert addresses(result) == ["bob@example.org"]


def test_two_accounts_with_one_address_and_a_file_named_after_an_alias_are_no_riddle(planned: Planner) -> None:
    directory = FakeDirectory([user("alice@example.org", "1@example.org", proved=False), user("alice@example.org")])
    result = planned(directory, "alice@example.org", roster="email\n1@example.org\n")
    assert issue_rows(result) == [("error", "address-mismatch", "people.csv", 2, "1@example.org")]
    assert addresses(result) == []


def test_another_spelling_of_the_primary_address_is_a_warning(planned: Planner) -> None:
    result = planned(FakeDirectory([user("alice@example.org")]), "alice@example.org", roster="email\nAlice@example.org\n")
    assert issue_rows(result) == [("warning", "address-case", "people.csv", 2, "Alice@example.org")]
    assert addresses(result) == ["Alice@example.org"]


def test_a_certificate_is_compared_with_the_directorys_spelling(planned: Planner) -> None:
    result = planned(FakeDirectory([user("alice@example.org")]), "Alice@example.org", roster="email\nAlice@example.org\n")
    assert [(source, check) for _, check, source, *_ in issue_rows(result)] == [("people.csv", "address-case"), ("1.pfx", "address-case")]


def test_the_language_of_a_row_wins_over_the_directorys(planned: Planner) -> None:
    entries = [
        user("alice@example.org", language="fr"),
        user("bob@example.org", language="de-AT", name="Robert", alternate_email="b@x.example"),
    ]
    roster = "email,language,name\nalice@example.org,nl,Alice\nbob@example.org,,\n"
    result = planned(FakeDirectory(entries), "alice@example.org", "bob@example.org", roster=roster)
    assert {d.address: (d.language, d.name) for d in result.deliveries} == {
        "alice@example.org": ("nl", "Alice"),
        "bob@example.org": ("de-AT", ""),
    }


def test_what_is_wrong_with_others_in_the_directory_does_not_matter_to_a_roster(planned: Planner) -> None:
    bad = Issue(Severity.ERROR, CheckId.BAD_ADDRESS, "bad", source="directory")
    directory = FakeDirectory([bad, user("carol@example.org", enabled=False), user("alice@example.org")])
    result = planned(directory, "alice@example.org", roster="email\nalice@example.org\n")
    assert (addresses(result), issue_rows(result)) == (["alice@example.org"], [])


def test_a_row_of_a_disabled_account_is_not_also_without_a_certificate(planned: Planner) -> None:
    result = planned(FakeDirectory([user("alice@example.org", enabled=False)]), roster="email\nalice@example.org\n")
    assert issue_rows(result) == [("error", "no-person", "people.csv", 2, "alice@example.org")]


def test_only_people_on_the_roster_are_held_in_memory() -> None:
    def everybody() -> Iterator[DirectoryUser]:
        yield from (user(f"p{n}@example.org", f"alias{n}@example.org") for n in range(20_000))

    class Large(FakeDirectory):
        def entries(self) -> Iterator[DirectoryUser]:
            return everybody()

    class One:
        def people(self) -> Iterator[Person]:
            yield Person(Address("p7", "example.org"))

    tracemalloc.start()
    people = gather(One(), Large([]))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert list(people.by_key) == ["p7@example.org"]
    assert people.issues == []
    assert held < 2**20


# --- the directory as the roster -----------------------------------------------------------------------------------------


def test_people_of_the_directory_get_what_is_for_them_in_their_language(planned: Planner) -> None:
    directory = FakeDirectory([user("alice@example.org", name="Alice Example", language="de-AT"), user("bob@example.org")])
    result = planned(directory, "alice@example.org", "bob@example.org")
    assert [(d.address, d.name, d.language) for d in result.deliveries] == [
        ("alice@example.org", "Alice Example", "de-AT"),
        ("bob@example.org", "", "en"),
    ]
    assert issue_rows(result) == []


def test_a_certificate_for_a_disabled_account_is_an_error(planned: Planner) -> None:
    result = planned(FakeDirectory([user("alice@example.org", enabled=False)]), "alice@example.org")
    assert issue_rows(result) == [("error", "no-person", "1.pfx", None, "alice@example.org")]
    assert addresses(result) == []


def test_a_certificate_of_somebody_gone_is_a_warning(planned: Planner) -> None:
    result = planned(FakeDirectory([user("alice@example.org")]), "alice@example.org", "gone@example.org")
    assert issue_rows(result) == [("warning", "no-person", "2.pfx", None, "gone@example.org")]
    assert "not in the directory" in result.issues[0].message
    assert addresses(result) == ["alice@example.org"]


def test_a_certificate_for_an_alias_is_a_mismatch_against_the_primary_address(planned: Planner) -> None:
    result = planned(FakeDirectory([user("alice@example.org", ALIAS)]), ALIAS)
    assert issue_rows(result) == [("error", "address-mismatch", "1.pfx", None, "alice@example.org")]
    assert "Outlook hides" in (result.issues[0].hint or "")
    assert "row" not in (result.issues[0].hint or "")


def test_who_of_a_group_has_no_certificate_is_told_but_not_of_disabled_accounts(planned: Planner) -> None:
    directory = FakeDirectory([user("alice@example.org"), user("bob@example.org"), user("carol@example.org", enabled=False)])
    result = planned(directory, "alice@example.org")
    assert issue_rows(result) == [("error", "no-certificate", "directory", None, "bob@example.org")]


def test_of_a_whole_directory_only_the_number_of_those_without_a_certificate_is_told(planned: Planner) -> None:
    directory = FakeDirectory([user(f"{name}@example.org") for name in ("alice", "bob", "carol")], whole=True)
    result = planned(directory, "alice@example.org")
    assert issue_rows(result) == [("note", "no-certificate", "directory", None, None)]
    assert result.issues[0].message.startswith("2 people")


def test_a_file_is_not_taken_for_somebodys_by_its_name_where_nobody_named_it(planned: Planner) -> None:
    result = planned(FakeDirectory([user("1@example.org")], whole=True), "gone@elsewhere.example")
    assert ("warning", "no-person", "1.pfx", None, "gone@elsewhere.example") in issue_rows(result)


def test_what_the_directory_says_of_a_user_reaches_the_plan(planned: Planner) -> None:
    bad = Issue(Severity.ERROR, CheckId.BAD_ADDRESS, "bad", source="directory")
    result = planned(FakeDirectory([bad, user("alice@example.org")]), "alice@example.org")
    assert issue_rows(result) == [("error", "bad-address", "directory", None, None)]
    assert addresses(result) == ["alice@example.org"]


def test_of_two_users_with_one_address_the_one_with_the_mailbox_counts(planned: Planner) -> None:
    admin = user("alice@example.org", name="adm-alice", proved=False)
    directory = FakeDirectory([admin, user("alice@example.org", name="Alice"), admin])
    assert [d.name for d in planned(directory, "alice@example.org").deliveries] == ["Alice"]


def test_an_account_for_administration_does_not_revive_a_disabled_mailbox(planned: Planner) -> None:
    directory = FakeDirectory([user("alice@example.org", proved=False), user("alice@example.org", enabled=False)])
    assert issue_rows(planned(directory, "alice@example.org")) == [("error", "no-person", "1.pfx", None, "alice@example.org")]


def test_anothers_alias_never_hides_a_primary_address(planned: Planner) -> None:
    directory = FakeDirectory([user("alice@example.org", "bob@example.org"), user("bob@example.org")])
    result = planned(directory, "bob@example.org", "alice@example.org")
    assert (sorted(addresses(result)), issue_rows(result)) == (["alice@example.org", "bob@example.org"], [])


def test_one_certificate_for_two_users_is_nobodys(planned: Planner) -> None:
    result = planned(FakeDirectory([user("alice@example.org"), user("bob@example.org")]), "alice@example.org bob@example.org")
    assert [check for _, check, *_ in issue_rows(result)] == ["duplicate", "duplicate"]
    assert addresses(result) == []
