"""Files, and what the source `files` finds in them."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

from distributor.adapters.sources import files
from distributor.model.certificates import SourceMaterial
from distributor.model.issues import Issue
from distributor.model.limits import Limits
from distributor.model.people import Address, Person, RosterRow, parse_address
from distributor.pki.pem import KeyFingerprint, UnpairedFile, fingerprints


class Here:
    """Looks into files in this very process."""

    def map(self, jobs: Iterable[UnpairedFile]) -> Iterator[tuple[UnpairedFile, KeyFingerprint]]:
        for job in jobs:
            yield job, fingerprints(job, Limits())


def look() -> AbstractContextManager[Here]:
    return nullcontext(Here())


def person(address: str, **hint: object) -> Person:
    parsed = parse_address(address)
    assert isinstance(parsed, Address)
    return Person(parsed, hint=replace(RosterRow("people.csv", 2), **hint))  # type: ignore[arg-type]  # whatever a row says


def find(*paths: Path, people: tuple[Person, ...] = (), **settings: object) -> list[SourceMaterial | Issue]:
    source = files.open(files.Settings(paths, **settings), look)  # type: ignore[arg-type]  # whatever a test sets
    return list(source.finds({p.address.key: p for p in people}))


def materials(found: list[SourceMaterial | Issue]) -> list[SourceMaterial]:
    assert all(isinstance(one, SourceMaterial) for one in found), found
    return [one for one in found if isinstance(one, SourceMaterial)]


def issues(found: list[SourceMaterial | Issue]) -> list[tuple[str, str, str | None]]:
    return [(one.severity.value, one.check.value, one.source) for one in found if isinstance(one, Issue)]


def words(material: SourceMaterial) -> list[str]:
    return [secret.reveal() for secret in material.passwords]


def zipped(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "."), data)
    return path
