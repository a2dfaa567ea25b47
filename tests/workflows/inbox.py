"""Files in a folder, people in a list, and what a plan makes of them: opened in this very process, kept in a real ledger."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from distributor.adapters.rosters import csv
from distributor.adapters.sources import files
from distributor.model.certificates import ParsedIdentities, SourceMaterial
from distributor.model.limits import Limits
from distributor.model.ports import Ledger
from distributor.pki import parse_material
from distributor.workflows.plan import PlanResult, plan
from tests.authority import Identity
from tests.source_files import look

if TYPE_CHECKING:
    from distributor.model.ports import Checker

PASSWORD = "in-comes-a-file"


class Opening:
    """A pool whose child is this process."""

    def map(self, jobs: Iterable[SourceMaterial]) -> Iterator[tuple[SourceMaterial, ParsedIdentities]]:
        return ((job, parse_material(job, Limits())) for job in jobs)


class Inbox:
    """A folder `inbox` beside a list `people.csv`."""

    def __init__(self, folder: Path, ledger: Ledger) -> None:
        self.base, self.folder, self.ledger = folder, folder / "inbox", ledger
        self.folder.mkdir()
        self._plans = 0

    def put(self, name: str, identity: Identity, password: str = PASSWORD) -> None:
        """A PFX with its password beside it."""
        (self.folder / name).write_bytes(identity.pfx(password))
        (self.folder / name).with_suffix(".txt").write_text(password, encoding="utf-8")

    def plan(
        self, roster: str | None = None, *paths: Path, passwords: Path | None = None, checker: Checker | None = None, **inputs: object
    ) -> PlanResult:
        """Plan the folder, or other paths, for a list."""
        people = self.base / "people.csv"
        if roster is not None:
            people.write_text(roster, encoding="utf-8")
        source = files.open(files.Settings(paths or (self.folder,), passwords, base=self.base, ignore=(people,)), look)
        who = csv.open(csv.Settings(people)) if roster is not None else None
        self._plans += 1
        return plan(
            self.ledger,
            who,
            source,
            Opening(),
            plan_id=f"p{self._plans}",
            inputs=inputs,
            languages=("en",),
            now=datetime.now(UTC),
            checker=checker,
        )


def issue_rows(result: PlanResult) -> list[tuple[str, str, str | None, int | None, str | None]]:
    """What its issues say, without their words."""
    return [(i.severity.value, i.check.value, i.source, i.line, i.address) for i in result.issues]


def addresses(result: PlanResult) -> list[str]:
    """Who is to get something."""
    return [delivery.address for delivery in result.deliveries]
