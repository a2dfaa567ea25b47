"""What every source does; a new file in `distributor/sources/` is found by itself and needs its files here."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import pytest

from distributor.adapters import REGISTRY
from distributor.model.certificates import Locator, SourceMaterial
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.limits import Limits
from distributor.model.people import Address, Person, RosterRow
from distributor.model.ports import Source
from distributor.pki import parse_material
from tests.authority import Authority
from tests.source_files import look

KINDS = sorted(REGISTRY["sources"])
ALICE = Address("alice", "example.org")


def _files(folder: Path, pfx: bytes) -> Source:
    (folder / "alice.pfx").write_bytes(pfx)
    (folder / "alice.txt").write_text("in-comes-a-file", encoding="utf-8")
    (folder / "link.pfx").symlink_to(folder / "alice.pfx")
    files = import_module("distributor.adapters.sources.files")
    opened: Source = files.open(files.Settings((folder,), base=folder), look)
    return opened


SOURCES: dict[str, Callable[[Path, bytes], Source]] = {"files": _files}  # one good material, and one that is refused


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name not in SOURCES:
        pytest.fail(f"{name} has no files in {__file__}")
    return name


@pytest.fixture
def source(kind: str, tmp_path: Path, authority: Authority) -> Source:
    return SOURCES[kind](tmp_path, authority.issue(str(ALICE)).pfx())


def locator(material: SourceMaterial) -> Locator:
    return Locator.from_json(Locator(material.form, tuple((p.path, p.member, p.sha256) for p in material.parts)).as_json())


def test_a_kind_has_settings_and_open(kind: str) -> None:
    module = import_module(REGISTRY["sources"][kind])
    assert module.Settings.__dataclass_params__.frozen
    assert callable(module.open)


def test_what_is_found_opens_with_the_passwords_that_come_with_it(source: Source) -> None:
    (material,) = (found for found in source.finds({}) if isinstance(found, SourceMaterial))
    (identity,) = parse_material(material, Limits()).identities
    assert identity.facts.addresses == (str(ALICE),)


def test_what_is_refused_is_an_issue_that_says_what_to_do(source: Source) -> None:
    (issue,) = (found for found in source.finds({}) if isinstance(found, Issue))
    assert (issue.severity, issue.check) == (Severity.ERROR, CheckId.UNSAFE_PATH)
    assert issue.source
    assert issue.hint


def test_what_a_row_names_comes_first_and_says_for_whom(source: Source) -> None:
    person = Person(ALICE, hint=RosterRow("people.csv", 2, file="alice.pfx"))
    (material,) = (found for found in source.finds({ALICE.key: person}) if isinstance(found, SourceMaterial))
    assert material.requested_for == ALICE.key


def test_the_same_is_fetched_again_by_its_locator(source: Source) -> None:
    (material,) = (found for found in source.finds({}) if isinstance(found, SourceMaterial))
    assert source.fetch(locator(material), None) == material


def test_other_bytes_are_not_fetched(source: Source) -> None:
    (material,) = (found for found in source.finds({}) if isinstance(found, SourceMaterial))
    form, parts = material.form, tuple((p.path, p.member, "0" * 64) for p in material.parts)
    assert isinstance(source.fetch(Locator(form, parts), None), Issue)
