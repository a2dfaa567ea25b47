"""What every roster does; a new file in `distributor/rosters/` is found by itself and needs a list here that says the same."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from distributor import rosters
from distributor.core.findings import Check, Issue, Severity
from distributor.core.people import Address, Person
from distributor.core.ports import Roster
from distributor.errors import Unusable

KINDS = sorted(found.name for found in pkgutil.iter_modules(rosters.__path__) if not found.name.startswith("_"))


def _csv(folder: Path) -> Roster:
    path = folder / "people.csv"
    path.write_text(
        "email,name,language,phone,manager,alternate_email,Cost Centre\n"
        "alice@example.org,Alice Example,de-AT,+1 555,boss@example.org,a@home.example,42\n"
        "not an address,Nobody,,,,,\n"
        "bob@example.org,,,,,,\n",
        encoding="utf-8",
    )
    csv = import_module("distributor.rosters.csv")
    opened: Roster = csv.open(csv.Settings(path))
    return opened


def _csv_gone(folder: Path) -> Roster:
    csv = import_module("distributor.rosters.csv")
    opened: Roster = csv.open(csv.Settings(folder / "gone.csv"))
    return opened


LISTS: dict[str, tuple[Callable[[Path], Roster], Callable[[Path], Roster]]] = {"csv": (_csv, _csv_gone)}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name not in LISTS:
        pytest.fail(f"{name} has no list in {__file__}")
    return name


@pytest.fixture
def roster(kind: str, tmp_path: Path) -> Roster:
    return LISTS[kind][0](tmp_path)


def test_a_kind_has_settings_and_open(kind: str) -> None:
    module = import_module(f"distributor.rosters.{kind}")
    assert module.Settings.__dataclass_params__.frozen
    assert callable(module.open)


def test_people_come_with_all_that_the_list_says(roster: Roster) -> None:
    alice = next(row for row in roster.people() if isinstance(row, Person))
    assert alice.address == Address("alice", "example.org")
    assert (alice.name, alice.language, alice.phone) == ("Alice Example", "de-AT", "+1 555")
    assert (alice.manager, alice.alternate_email) == ("boss@example.org", "a@home.example")
    assert alice.columns == {"cost_centre": "42"}


def test_a_bad_row_is_an_issue_in_its_place_and_the_others_go_on(roster: Roster) -> None:
    rows = list(roster.people())
    assert [type(row) for row in rows] == [Person, Issue, Person]
    assert isinstance(rows[1], Issue)
    assert (rows[1].severity, rows[1].check) == (Severity.ERROR, Check.BAD_ADDRESS)
    assert rows[1].hint


def test_people_can_be_asked_for_twice(roster: Roster) -> None:
    assert list(roster.people()) == list(roster.people())


def test_a_list_that_cannot_be_read_is_unusable(kind: str, tmp_path: Path) -> None:
    with pytest.raises(Unusable) as caught:
        list(LISTS[kind][1](tmp_path).people())
    assert caught.value.where
    assert caught.value.hint
