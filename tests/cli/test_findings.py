"""Findings of one cause are one entry with a count, three examples and the likely cause; a summary counts them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from distributor.cli.findings import EXAMPLES, MOST_GROUPS, grouped, summary
from distributor.model.issues import CheckId, Issue, Severity
from tests.authority import Authority
from tests.workspace import PASSWORD, Workspace

ONE = Issue(
    Severity.ERROR, CheckId.EXPIRED, "the certificate expired on 2026-01-01", "have a new one issued", "a.pfx", None, "a@example.org"
)
MANY = 5


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority) -> Iterator[Workspace]:
    """A workspace with five files that no row names, and whose names say nothing."""
    made = Workspace(tmp_path, authority)
    made.run("distributor init")
    (tmp_path / "certificates").mkdir()
    for number in range(MANY):
        one = authority.issue(f"p{number}@example.org", name=f"Person {number}")
        (tmp_path / "certificates" / f"cert-{number}.pfx").write_bytes(one.pfx(PASSWORD))
    made.add_roster(*(f"p{number}@example.org,Person_{number},en" for number in range(MANY)))
    yield made
    made.close()


def test_dates_names_and_addresses_do_not_make_another_cause() -> None:
    other = replace(ONE, message="the certificate expired on 2025-12-31", source="b.pfx", address="b@example.org")
    quoted = replace(ONE, message='the certificate is for "a@example.org", who is not on the roster')
    groups = grouped(
        [ONE, other, quoted, replace(quoted, message=quoted.message.replace("a@", "b c@")), replace(ONE, check=CheckId.WEAK_KEY)]
    )
    assert [group.number for group in groups] == [2, 2, 1]


def test_another_hint_or_severity_is_another_cause() -> None:
    assert len(grouped([ONE, replace(ONE, hint="have it revoked"), replace(ONE, severity=Severity.WARNING)])) == 3


def test_the_memory_stays_flat_whatever_the_texts_are() -> None:
    words = ["".join(chr(ord("a") + int(digit)) for digit in str(number)) for number in range(10 * MOST_GROUPS)]
    groups = grouped(replace(ONE, message=word) for word in words)
    assert len(groups) == MOST_GROUPS + 1
    assert sum(group.number for group in groups) == len(words)
    assert max(len(group.examples) for group in groups) == EXAMPLES


def test_the_summary_counts_by_cause() -> None:
    unopened = replace(ONE, check=CheckId.WRONG_PASSWORD)
    found = [unopened, unopened, ONE, replace(ONE, severity=Severity.WARNING, check=CheckId.EXPIRES_SOON)]
    assert summary(grouped(found)) == "3 errors (2 wrong-password, 1 expired), 1 warning (expires-soon)"
    assert summary([]) == ""


def test_many_files_without_a_password_are_one_finding_with_the_likely_cause(workspace: Workspace) -> None:
    workspace.run_script(
        """\
$ distributor plan certificates
plan (not recorded): 0 ready

error    wrong-password  5 files
         the file needs a password, but none was given
         cert-0.pfx, cert-1.pfx, cert-2.pfx and 2 more: --verbose lists all
         did you forget --passwords?
         ...

5 errors (wrong-password)
correct the errors and plan again; what is ready is not planned twice
? 1
"""
    )
    assert workspace.run("distributor plan certificates -v").stdout.count("error    wrong-password  cert-") == MANY
    issues = json.loads(workspace.run("distributor plan certificates --json").stdout)["issues"]
    assert [issue["source"] for issue in issues] == [f"cert-{number}.pfx" for number in range(MANY)]


def test_a_file_that_cannot_be_opened_is_not_a_second_error_for_its_person(workspace: Workspace) -> None:
    result = workspace.run("distributor plan certificates --roster people.csv").stdout
    assert "5 errors (wrong-password), 5 notes (no-certificate)\n" in result
    (workspace.folder / "certificates" / "cert-0.pfx").rename(workspace.folder / "certificates" / "p0.pfx")
    result = workspace.run("distributor plan certificates --roster people.csv").stdout
    assert "5 errors (wrong-password), 4 notes (no-certificate)\n" in result


def test_people_beyond_the_files_that_cannot_be_opened_are_one_more_error(workspace: Workspace) -> None:
    with (workspace.folder / "people.csv").open("a") as file:
        file.write("zoe@example.org,Zoe,en\n")
    result = workspace.run("distributor plan certificates --roster people.csv").stdout
    assert "6 people have no certificate, but only 5 files could not be opened: 1 or more have no file here\n" in result
    assert "6 errors (5 wrong-password, 1 no-certificate), 6 notes (no-certificate)\n" in result


def test_a_file_that_cannot_be_opened_does_not_excuse_many_people_without_one(workspace: Workspace) -> None:
    for number in range(1, MANY):
        (workspace.folder / "certificates" / f"cert-{number}.pfx").unlink()
    result = workspace.run("distributor plan certificates --roster people.csv").stdout
    assert "6 errors (5 no-certificate, 1 wrong-password)\n" in result


def test_planning_again_counts_what_is_planned_already(workspace: Workspace) -> None:
    rows = "".join(f"cert-{number}.pfx,{PASSWORD}\n" for number in range(MANY))
    (workspace.folder / "passwords.csv").write_text("file,password\n" + rows)
    plan = "distributor plan certificates --roster people.csv --passwords passwords.csv"
    workspace.run_script(
        f"""\
$ {plan}
plan ...: 5 ready
...
$ {plan}
plan ...: 0 new, 5 already planned
next: distributor send
"""
    )
    answer = json.loads(workspace.run(f"{plan} --json").stdout)
    assert (answer["ready"], answer["known"], len(answer["issues"])) == (0, {"planned": MANY}, MANY)
