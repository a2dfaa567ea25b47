"""Pairs certificates with keys in PEM and DER files: in one file, by equal stems, else by equal public keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager

from distributor.adapters.sources.reader import CHAINS, Entry
from distributor.model.certificates import FilePart, SourceMaterial
from distributor.model.issues import CheckId, Issue, Severity, WorkerFailure
from distributor.model.ports import WorkerPool
from distributor.model.secret import Secret
from distributor.pki.asn1 import Unreadable
from distributor.pki.pem import KeyFingerprint, UnpairedFile, blocks

Secrets = Callable[[list[Entry], None], tuple[Secret, ...]]
Look = Callable[[], AbstractContextManager[WorkerPool[UnpairedFile, KeyFingerprint]]]


class PemPairs:
    """Certificates and keys that have no partner of the same stem."""

    def __init__(self, secrets: Secrets, look: Look) -> None:
        """`look` starts child processes that read the public keys of files."""
        self._secrets = secrets
        self._look = look
        self._certificates: list[tuple[Entry, FilePart]] = []
        self._keys: list[tuple[Entry, FilePart]] = []

    def sort(self, parts: Mapping[Entry, FilePart]) -> list[Entry]:
        """The files of one stem that make an identity together; others are kept for `pair_by_key`."""
        kinds = {entry: _kinds_of(part.data) for entry, part in parts.items()}
        certificates = [entry for entry, (certificate, _) in kinds.items() if certificate]
        keys = [entry for entry, (_, key) in kinds.items() if key]
        if certificates and keys:
            certificates.sort(key=lambda entry: entry.extension in CHAINS)  # the person's own file gives the pair its name
            return list(dict.fromkeys(certificates + keys))
        for entry, part in parts.items():
            (self._keys if kinds[entry][1] else self._certificates).append((entry, part))
        return []

    def pair_by_key(self) -> Iterator[SourceMaterial | Issue]:
        """Pairs by public key; the rest alone, so that opening it reports what is missing."""
        seen = self._fingerprints() if self._certificates else {}
        keys = dict(self._keys)
        waiting: dict[bytes | None, list[Entry]] = {}
        for entry in keys if seen else ():
            waiting.setdefault(seen[entry].public, []).append(entry)
        groups: dict[bytes | Entry, list[tuple[Entry, FilePart]]] = {}  # one certificate may come in several files, as .crt and .p7b
        for entry, part in self._certificates:
            groups.setdefault(seen[entry].public or entry, []).append((entry, part))
        for group in groups.values():
            entries, parts = [entry for entry, _ in group], [part for _, part in group]
            if partners := self._partners(seen[entries[0]].public, waiting):
                partner = partners.pop(0)
                yield SourceMaterial("pem", (*parts, keys.pop(partner)), self._secrets([*entries, partner], None))
            elif all(seen[entry].authority for entry in entries):
                yield from map(authority_note, entries)
            else:
                yield SourceMaterial("pem", tuple(parts))
        for entry, part in keys.items():
            yield SourceMaterial("pem", (part,), self._secrets([entry], None))

    def _partners(self, public: bytes | None, waiting: Mapping[bytes | None, list[Entry]]) -> list[Entry] | None:
        """Keys with this public key; a single certificate and a single key without its password belong together too."""
        only = len(self._keys) == len(self._certificates) == 1
        return (waiting.get(public) if public is not None else None) or (waiting.get(None) if only else None)

    def _fingerprints(self) -> dict[Entry, KeyFingerprint]:
        """The public key and kind of each file; empty where a child process failed."""
        entries = [entry for entry, _ in (*self._certificates, *self._keys)]
        files = [UnpairedFile(part.data) for _, part in self._certificates]
        files += [UnpairedFile(part.data, self._secrets([entry], None)) for entry, part in self._keys]
        with self._look() as pool:
            found = [seen for _, seen in pool.map(files)]
        return {entry: KeyFingerprint() if isinstance(seen, WorkerFailure) else seen for entry, seen in zip(entries, found, strict=True)}


def authority_note(entry: Entry) -> Issue:
    """The note about a file of CA certificates."""
    message = "only CA certificates in it; they are added to the chains that they complete"
    return Issue(Severity.NOTE, CheckId.NO_KEY, message, "no action needed", entry.source)


def _kinds_of(data: bytes) -> tuple[bool, bool]:
    """Whether it contains a certificate, and whether it contains a key."""
    try:
        found = list(blocks(data))
    except (Unreadable, IndexError):
        return False, False
    return any(block.is_certificate for block in found), any(block.is_key for block in found)
