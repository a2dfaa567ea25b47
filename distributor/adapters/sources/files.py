"""Finds certificates with keys in files, folders and zips: first those that a roster's rows name, then all others.

File names are only hints: they help to find a file's password and its key, never whose the certificate is.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from distributor.adapters.sources import reader
from distributor.adapters.sources.inventory import Inventory, issue
from distributor.adapters.sources.lookup import Names
from distributor.adapters.sources.passwords import EXTENSIONS, Passwords
from distributor.adapters.sources.reader import Entry, Reader, ReadFault
from distributor.model.certificates import FilePart, Locator, SourceMaterial
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.limits import Limits
from distributor.model.people import Person, RosterRow, escape_unsafe
from distributor.model.secret import Secret

if TYPE_CHECKING:
    from distributor.adapters.sources.pem_pairs import Look, PemPairs

_HAS_KEY = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----")
MOST_KEPT = 16 * 2**20  # bytes of files that were read to find CA certificates, and are needed again
MOST_ISSUERS = 32  # CA certificates beside people's; all go to the child process with every file


@dataclass(frozen=True, slots=True)
class Settings:
    """Where to look. `base`: the roster's folder, to which its paths are relative; `ignore`: files known to be something else."""

    paths: tuple[Path, ...]
    passwords: Path | None = None
    limits: Limits = field(default_factory=Limits)
    base: Path | None = None
    ignore: tuple[Path, ...] = ()


def open(settings: Settings, look: Look) -> Files:  # noqa: A001  every adapter has this name
    """The source; files are read when they are asked for, PEM pairs by child processes of `look`.

    Raises InvalidInput when the passwords cannot be read.
    """
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
        self._unread: list[Issue] = []
        self._issuers: dict[bytes, None] = {}  # CA certificates that lie beside people's, in DER
        self._issuer_files: set[Entry] = set()
        self._kept: dict[Entry, bytes] = {}  # files without a key that were read before their turn

    def finds(self, people: Mapping[str, Person]) -> Iterator[SourceMaterial | Issue]:
        """What the people's rows name, then all other files.

        A note `wrong-password` comes before a material whose password file could not be read: that matters only if it does not open.
        Other notes are about files that are no certificates and were left alone.
        """
        for find in self._finds(people):
            yield from self._unread
            self._unread.clear()
            yield replace(find, issuers=tuple(self._issuers)) if isinstance(find, SourceMaterial) and self._issuers else find

    def _finds(self, people: Mapping[str, Person]) -> Iterator[SourceMaterial | Issue]:
        inventory = Inventory(self._reader)
        for path in self._settings.paths:
            yield from inventory.add(path)
        self._find_issuers(inventory)
        names = Names(self._base, inventory, self._reader, self._passwords)
        for person in people.values():
            for hint in person.rows:
                self._passwords.learn(person, hint, self._base)
        for key, person in people.items():
            for hint in person.rows:
                yield from self._named(key, person, hint, names, inventory)
        for entry in names.refused:
            inventory.use(entry)
        yield from self._others(inventory, names.passwords)

    def _find_issuers(self, inventory: Inventory) -> None:
        """Keep the certificates of files that have CA certificates only: a PFX or pair may come without its chain."""
        room = MOST_KEPT
        for entry in inventory.unused():
            if entry.extension not in reader.PEM - reader.KEYS or len(inventory.of_one_stem(entry)) > 1 or self._is_ours(entry):
                continue
            try:
                data = self._reader.read(entry)
            except ReadFault:  # reported when its turn comes
                continue
            if _HAS_KEY.search(data):  # somebody's own: most files are, and the parent process loads no cryptography for them
                continue
            from distributor.pki.pem import authorities  # noqa: PLC0415  slow to load

            found = authorities(data)
            if found and len(self._issuers) + len(found) <= MOST_ISSUERS:
                self._issuers.update(dict.fromkeys(found))
                self._issuer_files.add(entry)
            elif room >= len(data):
                self._kept[entry] = data
                room -= len(data)

    def _named(self, key: str, person: Person, hint: RosterRow, names: Names, inventory: Inventory) -> Iterator[SourceMaterial | Issue]:
        """The files that one row names."""
        found = names.look_up(hint, person)
        if isinstance(found, Issue):
            yield found
            return
        for entry in found:
            inventory.use(entry)
        if found:
            yield from self._material(found, person, key)

    def _material(self, entries: list[Entry], person: Person | None, requested_for: str) -> Iterator[SourceMaterial | Issue]:
        try:
            parts = tuple(map(self._reader.part, entries))
            if len(parts) == 1 and not reader.is_candidate(entries[0].extension) and not reader.looks_like(parts[0].data):
                raise _no_certificate()
        except ReadFault as fault:
            address = str(person.address) if person else None
            yield replace(issue(fault, entries[0].source), address=address)
            return
        form = reader.form(entries[0].extension, parts[0].data)
        yield SourceMaterial(form, parts[:1] if form == "pkcs12" else parts, self._secrets(entries, person), requested_for)

    def _secrets(self, entries: list[Entry], person: Person | None) -> tuple[Secret, ...]:
        rows = person.rows if person else ()
        found = [self._passwords.likely(entry, person, rows, self._base) for entry in reversed(entries)]
        self._note_unread(entries[0], person)
        return tuple(dict.fromkeys(secret for secrets in found for secret in secrets))

    def _note_unread(self, entry: Entry, person: Person | None) -> None:
        """Note which password files of a file cannot be read."""
        for name, fault in self._passwords.unread.items():
            message = f'its password file "{name}" cannot be read: {fault.message}'
            hint = "make it readable, or give the password in the roster or with --passwords"
            address = str(person.address) if person else None
            self._unread.append(Issue(Severity.NOTE, CheckId.WRONG_PASSWORD, message, hint, entry.source, None, address))
        self._passwords.unread.clear()

    def _others(self, inventory: Inventory, passwords: set[str]) -> Iterator[SourceMaterial | Issue]:
        """Files that no row names. `passwords`: names and stems of password files, which are skipped."""
        unpaired: PemPairs | None = None
        for entry in inventory.unused():
            if self._is_ours(entry):
                continue
            if entry in self._issuer_files:
                from distributor.adapters.sources.pem_pairs import authority_note  # noqa: PLC0415  loaded already

                yield authority_note(entry)
            elif entry.extension in reader.PEM:
                group = [other for other in inventory.of_one_stem(entry, unused=True) if not self._is_ours(other)]
                for other in group:
                    inventory.use(other)
                unpaired = unpaired or self._pairs()
                yield from self._pems(group, unpaired)
            elif entry.extension in reader.PKCS12:
                yield from self._material([entry], None, "")
            elif not _is_password_file(entry, inventory, passwords):
                yield from self._other(entry, Severity.ERROR if entry in inventory.named else Severity.NOTE)
        if unpaired is not None:
            yield from unpaired.pair_by_key()

    def _pairs(self) -> PemPairs:
        from distributor.adapters.sources.pem_pairs import PemPairs  # noqa: PLC0415  slow to load, and not needed where rows name every file

        return PemPairs(self._secrets, self._look)

    def _pems(self, entries: list[Entry], unpaired: PemPairs) -> Iterator[SourceMaterial | Issue]:
        """PEM or DER files of one stem, or PFX under such names."""
        parts: dict[Entry, FilePart] = {}
        for entry in entries:
            try:
                parts[entry] = self._reader.part(entry, self._kept.pop(entry, None))
            except ReadFault as fault:
                yield issue(fault, entry.source)
        for entry in [entry for entry, part in parts.items() if reader.form(entry.extension, part.data) == "pkcs12"]:
            yield SourceMaterial("pkcs12", (parts.pop(entry),), self._secrets([entry], None))
        for entry, found in [(entry, reader.blocks_of_no_use(part.data)) for entry, part in parts.items()]:
            if found is not None:
                del parts[entry]
                yield _of_no_use(entry, found)
        pair = unpaired.sort(parts)
        if pair:
            yield SourceMaterial("pem", tuple(parts[entry] for entry in pair), self._secrets(pair, None))

    def _other(self, entry: Entry, severity: Severity) -> Iterator[SourceMaterial | Issue]:
        """A file whose name does not say that it is a certificate."""
        try:
            data = self._reader.read(entry)
        except ReadFault as fault:
            yield issue(fault, entry.source, severity)
            return
        if (found := reader.blocks_of_no_use(data)) is not None:
            yield _of_no_use(entry, found)
        elif reader.looks_like(data):
            yield from self._material([entry], None, "")
        else:
            yield issue(_no_certificate(), entry.source, severity)

    def _is_ours(self, entry: Entry) -> bool:
        """Whether it is a file known to be something else, such as the vault's key."""
        return entry.member is None and entry.base in self._our_names and Path(entry.path).resolve() in self._ours

    def fetch(self, locator: Locator, person: Person | None) -> SourceMaterial | Issue:
        """The same bytes again, or why not."""
        entries = [Entry(path, member) for path, member, _ in locator.parts]
        parts = []
        for entry, (_, _, sha256) in zip(entries, locator.parts, strict=True):
            try:
                parts.append(self._planned_part(entry, sha256))
            except ReadFault as fault:
                return issue(fault, entry.source)
        found = SourceMaterial(locator.form, tuple(parts), self._secrets(entries, person))
        unread, self._unread = self._unread, []
        return replace(unread[0], severity=Severity.ERROR) if unread and not found.passwords and found.form == "pkcs12" else found

    def _planned_part(self, entry: Entry, sha256: str) -> FilePart:
        """The file as it was planned. Raises ReadFault."""
        if not self._reader.is_there(entry):
            place = escape_unsafe(str(Path(entry.path).parent) if entry.member is None else entry.path)
            raise ReadFault(
                CheckId.UNREADABLE, "the file no longer exists", f'put it back into "{place}", or run `distributor plan` on its new place'
            )
        data = self._reader.read(entry)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ReadFault(CheckId.UNREADABLE, "the file changed since it was planned", "run `distributor plan` on the file again")
        return FilePart(entry.source, entry.path, entry.member, sha256, data)


def _is_password_file(entry: Entry, inventory: Inventory, passwords: set[str]) -> bool:
    """Whether the name of a file that is no certificate is that of a password file."""
    base, stem = entry.base.casefold(), entry.stem.casefold()
    named = base in passwords or inventory.has_stem(base)
    return named or (entry.extension in EXTENSIONS and (stem in passwords or inventory.has_stem(stem)))


def _of_no_use(entry: Entry, found: str) -> Issue:
    """The note about a PEM file that is not needed. `found`: the names of its blocks."""
    return Issue(Severity.NOTE, CheckId.NO_KEY, f"no certificate and no private key in it: {found}", "no action needed", entry.source)


def _no_certificate() -> ReadFault:
    return ReadFault(
        CheckId.UNREADABLE, "the file is neither PKCS#12 nor PEM", "name the file with the certificate, or move this one elsewhere"
    )
