"""Files, folders, zips and PEM pairs -> Materials. What a roster's rows name comes first, then everything else that lies there.

File names are hints: they tell a file's password and its pair, never whose the certificate is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from distributor.core.credentials import Limits, Locator, Material, Part
from distributor.core.findings import Check, Issue, Severity
from distributor.core.people import Person, RowHint
from distributor.core.secret import Secret
from distributor.sources import _kinds
from distributor.sources._files import Entry, Fault, Reader
from distributor.sources._inventory import Inventory, issue
from distributor.sources._passwords import EXTENSIONS, Passwords
from distributor.sources._rows import Names, hints

if TYPE_CHECKING:
    from distributor.sources._pairs import Look, Pairs


@dataclass(frozen=True, slots=True)
class Settings:
    """What to look into. `base`: the roster's folder, its paths are relative to it; `ignore`: files known to be something else."""

    paths: tuple[Path, ...]
    passwords: Path | None = None
    limits: Limits = field(default_factory=Limits)
    base: Path | None = None
    ignore: tuple[Path, ...] = ()


def open(settings: Settings, look: Look) -> Files:  # noqa: A001  every adapter is opened so
    """The files; read when they are asked for, some by child processes of `look`. Raises Unusable when the passwords cannot be read."""
    return Files(settings, look)


class Files:
    """Certificates with keys in files."""

    def __init__(self, settings: Settings, look: Look) -> None:
        self._settings = settings
        self._look = look
        self._base = str(settings.base.absolute()) if settings.base else None
        self._reader = Reader(settings.limits)
        self._passwords = Passwords(settings.passwords, self._reader)
        self._ours = {path.resolve() for path in (*settings.ignore, *filter(None, (settings.passwords,)))}
        self._our_names = {path.name for path in self._ours}

    def finds(self, people: Mapping[str, Person]) -> Iterator[Material | Issue]:
        """What the people's rows name, then the rest."""
        inventory = Inventory(self._reader)
        for path in self._settings.paths:
            yield from inventory.add(path)
        names = Names(self._base, inventory, self._reader)
        done: set[Entry] = set()
        for key, person in people.items():
            for hint in hints(person):
                yield from self._named(key, person, hint, names, done)
        promised = {entry.stem.casefold() for entry in (*inventory.entries, *done) if _kinds.is_candidate(entry.extension)}
        yield from self._rest([entry for entry in inventory.entries if entry not in done], promised | names.passwords)

    def _named(self, key: str, person: Person, hint: RowHint, names: Names, done: set[Entry]) -> Iterator[Material | Issue]:
        """What one row names."""
        found = names.look_up(hint, person)
        if isinstance(found, Issue):
            yield found
            return
        if found:
            done.update(found)
            yield from self._material(found, person, key)

    def _material(self, entries: list[Entry], person: Person | None, wanted: str) -> Iterator[Material | Issue]:
        try:
            parts = tuple(map(self._reader.part, entries))
        except Fault as fault:
            address = str(person.address) if person else None
            yield Issue(Severity.ERROR, fault.check, fault.message, fault.hint, entries[0].source, None, address)
            return
        form = _kinds.form(entries[0].extension, parts[0].data)
        yield Material(form, parts[:1] if form == "pkcs12" else parts, self._secrets(entries, person), wanted)

    def _secrets(self, entries: list[Entry], person: Person | None) -> tuple[Secret, ...]:
        rows = hints(person) if person else ()
        found = [self._passwords.likely(entry, person, rows, self._base) for entry in reversed(entries)]
        return tuple(dict.fromkeys(secret for secrets in found for secret in secrets))

    def _rest(self, entries: list[Entry], stems: set[str]) -> Iterator[Material | Issue]:
        """What no row names. `stems`: files of these stems may hold passwords."""
        groups: dict[tuple[object, str], list[Entry]] = {}
        for entry in entries:
            if self._is_ours(entry):
                continue
            groups.setdefault((entry.place, entry.stem.casefold()), []).append(entry)
        from distributor.sources._pairs import Pairs  # noqa: PLC0415  heavy, and settings are looked at without it

        loose = Pairs(self._secrets, self._look)
        for (_, stem), group in groups.items():
            pems = []
            for entry in group:
                if entry.extension in _kinds.PEM:
                    pems.append(entry)
                elif entry.extension in _kinds.PKCS12:
                    yield from self._material([entry], None, "")
                else:
                    yield from self._other(entry, known=entry.extension in EXTENSIONS and stem in stems)
            if pems:
                yield from self._pems(pems, loose)
        yield from loose.settle()

    def _pems(self, entries: list[Entry], loose: Pairs) -> Iterator[Material | Issue]:
        """PEM or DER files of one stem."""
        parts: dict[Entry, Part] = {}
        for entry in entries:
            try:
                parts[entry] = self._reader.part(entry)
            except Fault as fault:
                yield issue(fault, entry.source)
        pair = loose.sort(parts)
        if pair:
            yield Material("pem", tuple(parts[entry] for entry in pair), self._secrets(pair, None))

    def _other(self, entry: Entry, *, known: bool) -> Iterator[Material | Issue]:
        """A file whose name does not say that it is a certificate."""
        if known:
            return
        try:
            data = self._reader.read(entry)
        except Fault as fault:
            yield issue(fault, entry.source, Severity.NOTE)
            return
        if _kinds.looks_like(data):
            yield from self._material([entry], None, "")
        else:
            odd = Fault(
                Check.UNREADABLE, "it is neither PKCS#12 nor PEM and was left alone", "move it elsewhere if it does not belong here"
            )
            yield issue(odd, entry.source, Severity.NOTE)

    def _is_ours(self, entry: Entry) -> bool:
        """Whether it is a file known to be something else, such as the vault's key."""
        return entry.member is None and entry.base in self._our_names and Path(entry.path).resolve() in self._ours

    def fetch(self, locator: Locator, person: Person | None) -> Material | Issue:
        """The same bytes again, or why not."""
        entries = [Entry(path, member) for path, member, _ in locator.parts]
        parts = []
        for entry, (_, _, wanted) in zip(entries, locator.parts, strict=True):
            try:
                data = self._reader.read(entry)
            except Fault as fault:
                return issue(fault, entry.source)
            if hashlib.sha256(data).hexdigest() != wanted:
                changed = Fault(Check.UNREADABLE, "the file changed since it was planned", "plan it again")
                return issue(changed, entry.source)
            parts.append(Part(entry.source, entry.path, entry.member, wanted, data))
        return Material(locator.form, tuple(parts), self._secrets(entries, person))
