"""What a plan was made from (paths, kept in the ledger) -> its people and certificates, opened again. A part of wiring.

Several sources may each have their own roster and passwords; to a plan they are one list of people and one heap of certificates.
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
from distributor.config.converter import Faulty, structure
from distributor.config.schema import SourceFiles
from distributor.errors import Misuse, Unusable
from distributor.model.certificates import Locator, Material
from distributor.model.directory_users import Directory, Entry
from distributor.model.issues import Check, Issue, Severity
from distributor.model.people import Person
from distributor.model.ports import Pool, Roster, Source

if TYPE_CHECKING:
    from distributor.model.certificates import Opened
    from distributor.pki.key_fingerprints import Loose, Traits

CHILD_MEMORY = 2**30  # bytes of address space of a child process
EARLY = 2  # children that are started before there is anything to do


@dataclass(frozen=True, slots=True)
class Heap:
    """Certificates, their passwords, and whose they are; absolute paths."""

    paths: tuple[Path, ...]
    passwords: Path | None = None
    roster: Path | None = None

    def as_json(self) -> dict[str, object]:
        """The ledger's form."""
        return {
            "paths": [str(path) for path in self.paths],
            "passwords": str(self.passwords) if self.passwords else None,
            "roster": str(self.roster) if self.roster else None,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Heap:
        """From the ledger's form."""
        passwords, roster = value.get("passwords"), value.get("roster")
        return cls(tuple(map(Path, value["paths"])), Path(passwords) if passwords else None, Path(roster) if roster else None)


def heaps(settings: config.Settings, paths: Sequence[Path], roster: Path | None, passwords: Path | None) -> tuple[Heap, ...]:
    """What a command line means; without paths and roster, `[[sources]]`."""
    if not paths and (known := configured(settings)):
        return tuple(Heap(heap.paths, _absolute(passwords) or heap.passwords, _absolute(roster) or heap.roster) for heap in known)
    if not paths and roster is None:
        hint = "name a file or folder: `distributor plan certificates/`, or add [[sources]] to distributor.toml"
        raise Misuse("there is nothing to plan from", hint=hint)
    for path in (*paths, *filter(None, (roster, passwords))):
        if not path.exists():
            raise Unusable("there is no such file or folder", where=str(path), hint="check the name")
        if not _is_text(path.absolute()):
            raise Unusable("its name is not UTF-8", where=str(path), hint="rename it, and the folders above it")
    return (Heap(tuple(path.absolute() for path in paths), _absolute(passwords), _absolute(roster)),)


def _is_text(path: Path) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in str(path))


def _absolute(path: Path | None) -> Path | None:
    return path.absolute() if path else None


def configured(settings: config.Settings) -> tuple[Heap, ...]:
    """What `[[sources]]` names."""
    found = []
    for table in settings.sources:
        try:
            source = structure(SourceFiles, table.values, table.key, settings.folder)
        except Faulty as faulty:
            first = faulty.faults[0]
            raise Unusable(first.message, where=bootstrap.placed(settings, first.key), hint=first.hint) from None
        if not source.path.exists():
            hint = f"correct the path; it is relative to {settings.file.name}"
            raise Unusable(f'"{source.path}" is not there', where=bootstrap.placed(settings, f"{table.key}.path"), hint=hint)
        found.append(Heap((source.path,), source.passwords, source.roster))
    return tuple(found)


def inputs(found: Sequence[Heap], settings: config.Settings | None = None) -> dict[str, object]:
    """What the ledger keeps of a plan's making; of a directory, which one and of whom, and never how one signs in."""
    tables = settings.rosters if settings is not None else ()
    asked = [{"kind": table.kind, **{name: table.values[name] for name in _ASKED if name in table.values}} for table in tables]
    return {"sources": [heap.as_json() for heap in found], **({"directory": asked} if asked else {})}


_ASKED = ("tenant", "group", "filter", "guests", "url", "base")


def people(found: Sequence[Heap], keep: Callable[[], Collection[str]] = frozenset) -> Roster | None:
    """One list of everybody; None where certificates tell whose they are. `keep`: the further columns that are of use."""
    files = list(dict.fromkeys(heap.roster for heap in found if heap.roster is not None))
    lists = [_list(path, keep) for path in files]
    return _Lists(lists) if lists else None


def _list(path: Path, keep: Callable[[], Collection[str]]) -> Roster:
    module = bootstrap.adapter("rosters", "csv")
    opened: Roster = module.open(module.Settings(path=path, keep=keep))
    return opened


def directory(settings: config.Settings) -> Directory | None:
    """What `[[rosters]]` names, as one; nothing is asked yet. A later `send` needs none of it: whom it goes to is in the ledger."""
    opened = [
        bootstrap.adapter("rosters", table.kind).open(bootstrap.shaped(settings, "rosters", table), table.key) for table in settings.rosters
    ]
    return _Directories(opened) if opened else None


def certificates(settings: config.Settings, found: Sequence[Heap]) -> Source:
    """One heap of all certificates."""
    module = bootstrap.adapter("sources", "files")
    private = bootstrap.private_files(settings)
    ours = (settings.file, *private, *(path.with_name(path.name + end) for path in private[:1] for end in _BESIDE))
    rosters = tuple(heap.roster for heap in found if heap.roster)
    return _Heaps([_files(module, settings, heap, (*ours, *rosters)) for heap in found])


_BESIDE = ("-wal", "-shm", "-journal", "-roads")  # what lies beside a ledger


def _files(module: Any, settings: config.Settings, heap: Heap, ignore: tuple[Path, ...]) -> Source:  # noqa: ANN401  a module, found by name
    base = heap.roster.parent if heap.roster else None
    opened: Source = module.open(
        module.Settings(paths=heap.paths, passwords=heap.passwords, limits=settings.limits, base=base, ignore=ignore),
        partial(looking, settings),
    )
    return opened


def open_plan(settings: config.Settings, made_from: Mapping[str, Any]) -> tuple[Source, Mapping[str, Person]]:
    """Where a plan's certificates lie, and whom its roster names."""
    from distributor.files.spool import Forgotten
    from distributor.workflows.roster import gather

    found = [Heap.from_json(value) for value in made_from.get("sources", ())]
    return certificates(settings, found), gather(people(found), None, Forgotten).by_key


# --- child processes: whoever wrote a file decides how long it takes to read ------------------------------------------


@contextmanager
def opening(settings: config.Settings) -> Iterator[Pool[Material, Opened]]:
    """Child processes that open certificates' files."""
    from distributor.pki import open_material
    from distributor.workers.pool import Workers

    call = partial(open_material, limits=settings.limits)
    with Workers(call, cores(), settings.limits.open_seconds, CHILD_MEMORY, early=EARLY) as pool:
        yield pool


@contextmanager
def looking(settings: config.Settings) -> Iterator[Pool[Loose, Traits]]:
    """Child processes that look for what belongs together."""
    from distributor.pki.key_fingerprints import traits
    from distributor.workers.pool import Workers

    with Workers(partial(traits, limits=settings.limits), cores(), settings.limits.open_seconds, CHILD_MEMORY) as pool:
        yield pool


def cores() -> int:
    """How many processes may run at once."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


# --- several as one ---------------------------------------------------------------------------------------------------


class _Lists:
    """Several rosters, one after the other."""

    def __init__(self, lists: Sequence[Roster]) -> None:
        self._lists = lists

    def people(self) -> Iterator[Person | Issue]:
        """Everybody."""
        for one in self._lists:
            yield from one.people()


class _Directories:
    """Several directories, one after the other."""

    def __init__(self, directories: Sequence[Directory]) -> None:
        self._directories = directories
        self.whole = any(one.whole for one in directories)

    def entries(self) -> Iterator[Entry | Issue]:
        """Everybody."""
        for one in self._directories:
            yield from one.entries()


class _Heaps:
    """Several sources, one after the other."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources

    def finds(self, named: Mapping[str, Person]) -> Iterator[Material | Issue]:
        """Everything that may hold credentials."""
        for source in self._sources:
            yield from source.finds(named)

    def fetch(self, locator: Locator, person: Person | None) -> Material | Issue:
        """The same bytes again, with every source's passwords for them."""
        found = [source.fetch(locator, person) for source in self._sources]
        good = [material for material in found if isinstance(material, Material)]
        if not good:
            return next(iter(found), _GONE)
        passwords = dict.fromkeys(password for material in good for password in material.passwords)
        return replace(good[0], passwords=tuple(passwords))


_GONE = Issue(Severity.ERROR, Check.UNREADABLE, "the plan names no source", "run `distributor plan` again")
