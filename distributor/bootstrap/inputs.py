"""Composes what `plan` reads, and `send` reads again: sources of certificates, rosters, directories, worker pools that open files.

Several sources may each have their own roster and passwords; a plan sees one list of people and one set of certificates.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributor import bootstrap, config
from distributor.config.converter import ConfigErrors, structure
from distributor.config.schema import SourceFiles
from distributor.errors import InvalidInput, UsageError
from distributor.model.certificates import Locator, SourceMaterial
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import Address, Directory, DirectoryUser, Person, with_primary
from distributor.model.ports import Roster, Source, WorkerPool

if TYPE_CHECKING:
    from distributor.model.certificates import ParsedIdentities
    from distributor.pki.pem import KeyFingerprint, UnpairedFile

CHILD_MEMORY = 2**30  # bytes of address space of a child process
EARLY = 2  # children that are started before there is a job
GROUP = 8  # files that cross to a child together; more is hardly faster, and the contents of all that are on their way are in memory


@dataclass(frozen=True, slots=True)
class SourceSet:
    """Where certificates, their passwords and their people are; absolute paths."""

    paths: tuple[Path, ...]
    passwords: Path | None = None
    roster: Path | None = None

    def as_json(self) -> dict[str, object]:
        """As the ledger keeps it."""
        return {
            "paths": [str(path) for path in self.paths],
            "passwords": str(self.passwords) if self.passwords else None,
            "roster": str(self.roster) if self.roster else None,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> SourceSet:
        """From what the ledger kept."""
        passwords, roster = value.get("passwords"), value.get("roster")
        return cls(tuple(map(Path, value["paths"])), Path(passwords) if passwords else None, Path(roster) if roster else None)


def source_sets(settings: config.Settings, paths: Sequence[Path], roster: Path | None, passwords: Path | None) -> tuple[SourceSet, ...]:
    """The sources that a command line names; without paths and roster, those of `[[sources]]`."""
    if not paths and (known := configured(settings)):
        return tuple(
            SourceSet(source_set.paths, _absolute(passwords) or source_set.passwords, _absolute(roster) or source_set.roster)
            for source_set in known
        )
    if not paths and roster is None:
        hint = (
            "name a file or folder: `distributor plan certificates/`, or add [[sources]] to distributor.toml"
            " (see docs/certificates.md#where-the-certificates-come-from)"
        )
        raise UsageError("nothing to plan: no source is given", hint=hint)
    for path in (*paths, *filter(None, (roster, passwords))):
        if not path.exists():
            raise InvalidInput("no such file or folder", where=str(path), hint="check the path")
        if not _is_text(path.absolute()):
            raise InvalidInput("the path is not UTF-8", where=str(path), hint="rename the file or folder")
    return (SourceSet(tuple(path.absolute() for path in paths), _absolute(passwords), _absolute(roster)),)


def _is_text(path: Path) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in str(path))


def _absolute(path: Path | None) -> Path | None:
    return path.absolute() if path else None


def configured(settings: config.Settings) -> tuple[SourceSet, ...]:
    """The sources of `[[sources]]`. Raises InvalidInput."""
    found = []
    for table in settings.sources:
        try:
            source = structure(SourceFiles, table.values, table.key, settings.folder)
        except ConfigErrors as faulty:
            first = faulty.faults[0]
            raise InvalidInput(first.message, where=bootstrap.location_of(settings, first.key), hint=first.hint) from None
        if not source.path.exists():
            hint = f"correct the path; it is relative to {settings.file.name}"
            raise InvalidInput(f'"{source.path}" does not exist', where=bootstrap.location_of(settings, f"{table.key}.path"), hint=hint)
        found.append(SourceSet((source.path,), source.passwords, source.roster))
    return tuple(found)


def inputs(found: Sequence[SourceSet], settings: config.Settings | None = None) -> dict[str, object]:
    """A plan's inputs as the ledger keeps them; of a directory, which one and which people, never credentials."""
    tables = settings.rosters if settings is not None else ()
    asked = [{"kind": table.kind, **{name: table.values[name] for name in _KEPT_KEYS if name in table.values}} for table in tables]
    return {"sources": [source_set.as_json() for source_set in found], **({"directory": asked} if asked else {})}


_KEPT_KEYS = ("tenant", "group", "filter", "guests", "url", "base")  # of `[[rosters]]`


def people(found: Sequence[SourceSet], keep: Callable[[], Collection[str]] = frozenset) -> Roster | None:
    """The rosters as one; None where there is none (each certificate names its person). `keep`: the further columns that are kept."""
    from distributor.adapters.rosters import csv

    files = dict.fromkeys(source_set.roster for source_set in found if source_set.roster is not None)
    lists = [csv.open(csv.Settings(path=path, keep=keep)) for path in files]
    return _Rosters(lists) if lists else None


def directory(settings: config.Settings) -> Directory | None:
    """The directories of `[[rosters]]` as one, not connected yet. `send` does not need them: the ledger knows the recipients."""
    opened = [bootstrap.open_adapter(settings, "rosters", table) for table in settings.rosters]
    return _Directories(opened) if opened else None


def certificates(settings: config.Settings, found: Sequence[SourceSet]) -> Source:
    """All sources as one. The program's own files among them are ignored."""
    from distributor.ledger.locks import BESIDE

    private = bootstrap.private_files(settings)
    beside = ("-wal", "-shm", "-journal", BESIDE)  # SQLite's and the mailbox locks' files add this to the ledger's name
    ours = (settings.file, *private, *(path.with_name(path.name + end) for path in private[:1] for end in beside))
    rosters = tuple(source_set.roster for source_set in found if source_set.roster)
    return _SourceSets([_files(settings, source_set, (*ours, *rosters)) for source_set in found])


def _files(settings: config.Settings, source_set: SourceSet, ignore: tuple[Path, ...]) -> Source:
    from distributor.adapters.sources import files

    base = source_set.roster.parent if source_set.roster else None
    return files.open(
        files.Settings(paths=source_set.paths, passwords=source_set.passwords, limits=settings.limits, base=base, ignore=ignore),
        partial(pairing_pool, settings),
    )


def open_plan(settings: config.Settings, made_from: Mapping[str, Any]) -> tuple[Source, Mapping[str, Person]]:
    """The sources that a plan was made from, and the people of its rosters. `made_from`: as `inputs` made it."""
    from distributor.files.spool import DiscardedList
    from distributor.workflows.roster import gather

    found = [SourceSet.from_json(value) for value in made_from.get("sources", ())]
    return certificates(settings, found), gather(people(found), None, DiscardedList).by_key


# --- child processes: the author of a file decides how long it takes to parse ------------------------------------------


@contextmanager
def parsing_pool(settings: config.Settings) -> Iterator[WorkerPool[SourceMaterial, ParsedIdentities]]:
    """Child processes that open files with certificates and keys."""
    from distributor.pki import parse_material
    from distributor.workers.pool import Workers

    call = partial(parse_material, limits=settings.limits)
    with Workers(call, cores(), settings.limits.open_seconds, CHILD_MEMORY, early=EARLY, group=GROUP) as pool:
        yield pool


@contextmanager
def pairing_pool(settings: config.Settings) -> Iterator[WorkerPool[UnpairedFile, KeyFingerprint]]:
    """Child processes that fingerprint keys, to find which certificate and key belong together."""
    from distributor.pki.pem import fingerprints
    from distributor.workers.pool import Workers

    with Workers(partial(fingerprints, limits=settings.limits), cores(), settings.limits.open_seconds, CHILD_MEMORY) as pool:
        yield pool


def cores() -> int:
    """How many processor cores this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


# --- several as one ---------------------------------------------------------------------------------------------------


class _Rosters:
    """Several rosters, one after the other."""

    def __init__(self, rosters: Sequence[Roster]) -> None:
        self._rosters = rosters

    def people(self) -> Iterator[Person | Issue]:
        """The people of all."""
        for one in self._rosters:
            yield from one.people()


class _Directories:
    """Several directories, one after the other."""

    def __init__(self, directories: Sequence[Directory]) -> None:
        self._directories = directories
        self.is_full_directory = any(one.is_full_directory for one in directories)

    def entries(self) -> Iterator[DirectoryUser | Issue]:
        """The users of all."""
        for one in self._directories:
            yield from one.entries()

    def find(self, address: Address) -> DirectoryUser | None:
        """The user in any of them."""
        return with_primary(address, (one.find(address) for one in self._directories))


class _SourceSets:
    """Several sources, one after the other."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def finds(self, named: Mapping[str, Person]) -> Iterator[SourceMaterial | Issue]:
        """The materials of all."""
        for source in self._sources:
            yield from source.finds(named)

    def fetch(self, locator: Locator, person: Person | None) -> SourceMaterial | Issue:
        """The same bytes again, with the passwords that any source has for them."""
        found = [source.fetch(locator, person) for source in self._sources]
        good = [material for material in found if isinstance(material, SourceMaterial)]
        if not good:
            return next(iter(found), _GONE)
        passwords = dict.fromkeys(password for material in good for password in material.passwords)
        return replace(good[0], passwords=tuple(passwords))


_GONE = Issue(Severity.ERROR, CheckId.UNREADABLE, "the plan has no source", "run `distributor plan` again")
