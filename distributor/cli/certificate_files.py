"""Reads the certificates given to `distributor trust`, and checks them as `plan` does: chain, revocation, what the collection lacks."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from distributor.cli.options import is_folder, replacing
from distributor.errors import InvalidInput
from distributor.files.reader import FileRefused, Reason, read_file
from distributor.model.issues import CheckId, Issue, Severity, WorkerFailure

if TYPE_CHECKING:
    from datetime import datetime

    from distributor.config.schema import TrustSettings
    from distributor.microsoft.collection import ChainGap, CollectionEntry
    from distributor.model.limits import Limits
    from distributor.pki.sst import Stored


CHAIN = frozenset({CheckId.CHAIN_INCOMPLETE, CheckId.CHAIN_UNTRUSTED})
PFX = frozenset({".pfx", ".p12"})
LARGEST = 16 * 2**20  # bytes; Windows' own collection of all roots has 660 kB
_HINTS = {Reason.MISSING: "check the path", Reason.UNREADABLE: "check its permissions"}
WANTED = "use PEM, DER, PKCS#7 (.p7b) or .sst files with certificates"


def gathered(
    paths: Iterable[Path], *, without: Path | None = None, deep: bool = True, pfx: list[Path] | None = None
) -> tuple[list[CollectionEntry], list[Issue]]:
    """Every certificate in the files and folders, and the issues. `without`: a file to leave out. `deep`: subfolders too.

    `pfx`: a list that receives the PFX files found, which need passwords; None where they are not wanted.
    """
    from distributor.microsoft import collection

    issues: list[Issue] = []
    found = [one for path in paths for one in _of(path, without, issues, pfx, deep=deep)]
    members, unreadable = collection.members(found)
    return members, issues + unreadable


def _of(path: Path, without: Path | None, issues: list[Issue], pfx: list[Path] | None, *, deep: bool) -> Iterator[tuple[str, Stored]]:
    from distributor.pki import pem

    if not is_folder(path):
        if pfx is not None and path.suffix.lower() in PFX and path.exists():
            pfx.append(path)
        else:
            yield from _file(path, issues)
        return
    if not os.access(path, os.R_OK | os.X_OK):
        raise InvalidInput("permission denied", where=str(path), hint="check its permissions")
    every = sorted(file for file in (path.rglob("*") if deep else path.iterdir()) if file.is_file() and file != without)
    files = [file for file in every if file.suffix.lower() in pem.EXTENSIONS]
    packages = [] if pfx is None else [file for file in every if file.suffix.lower() in PFX]
    if pfx is not None:
        pfx += packages
    if not (files or packages):
        issues.append(_issue(path, "no certificate files found in this folder"))
    for file in files:
        yield from _file(file, issues, in_folder=True)


def with_packages(paths: Iterable[Path], passwords: Path | None, config: Path | None) -> tuple[list[CollectionEntry], list[Issue]]:
    """Certificates in files, folders and PFX files; no workspace is needed. `passwords`: as for `plan`."""
    from distributor import bootstrap
    from distributor.model.limits import Limits

    pfx: list[Path] = []
    found, issues = gathered(paths, pfx=pfx)
    if not pfx:
        return found, issues
    try:
        limits = bootstrap.settings(config).limits
    except InvalidInput:
        if config is not None:
            raise
        limits = Limits()
    more, wrong = _unlocked(pfx, passwords, limits)
    return found + more, issues + wrong


def _unlocked(files: Sequence[Path], passwords: Path | None, limits: Limits) -> tuple[list[CollectionEntry], list[Issue]]:
    """The certificates in PFX files with their chains, each once, and the issues of files that do not open."""
    from distributor.bootstrap import trust
    from distributor.microsoft import collection
    from distributor.pki.sst import Stored
    from distributor.workflows.plan_messages import lost

    issues, found = list[Issue](), dict[bytes, str]()
    for one in trust.opened(files, passwords, limits):
        match one:
            case Issue():
                issues.append(one)
            case (material, WorkerFailure() as failed):
                issues.append(replace(lost(failed), source=material.source))
            case (material, opened):
                issues += [Issue(Severity.ERROR, each.check, each.message, each.hint, material.source) for each in opened.problems]
                for identity in opened.identities:
                    found |= {der: found.get(der, material.source) for der in (identity.leaf, *identity.chain)}
    members, unreadable = collection.members((source, Stored(der)) for der, source in found.items())
    return members, issues + unreadable


def _file(path: Path, issues: list[Issue], *, in_folder: bool = False) -> Iterator[tuple[str, Stored]]:
    from distributor.pki import pem
    from distributor.pki.asn1 import Unreadable

    try:
        stored = pem.read(read(path))
    except Unreadable as fault:
        if not (in_folder and isinstance(fault, pem.Empty)):  # a key beside its certificate
            issues.append(_issue(path, str(fault)))
        return
    yield from ((called(path), one) for one in stored)


def _issue(path: Path, message: str) -> Issue:
    return Issue(Severity.ERROR, CheckId.UNREADABLE, message, WANTED, called(path))


def called(path: Path) -> str:
    """A file's name, safe to show."""
    from distributor.model.people import escape_unsafe

    return escape_unsafe(path.name or str(path))


def read(path: Path) -> bytes:
    """A regular file's bytes. Raises InvalidInput."""
    try:
        return read_file(path, LARGEST, follow=True)
    except FileRefused as refused:
        message = "no such file or folder" if refused.reason is Reason.MISSING else refused.message
        raise InvalidInput(message, where=str(path), hint=_HINTS.get(refused.reason, WANTED)) from None


def write(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file that replaces an old one when it is complete. Raises InvalidInput."""
    with replacing(path, mode, such_as="collection.sst") as file:
        file.write(data)


@dataclass(frozen=True, slots=True)
class CheckedCertificates:
    """What the collection lacks for each certificate, every issue, and which certificates (DER) have an error."""

    sought: tuple[ChainGap, ...] = ()
    issues: tuple[Issue, ...] = ()
    wrong: frozenset[bytes] = frozenset()

    def complete(self, one: ChainGap) -> bool:
        """Whether its chain is complete and it has no error."""
        return one.member.der not in self.wrong and (not one.member.authority or not one.lacks)


def check_certificates(
    collection: Sequence[CollectionEntry],
    certificates: Sequence[CollectionEntry],
    table: TrustSettings | None,
    now: datetime,
    *,
    offline: bool,
) -> CheckedCertificates:
    """Check certificates of people and of authorities against a collection. `table`: `[trust]`, which says how strictly."""
    from distributor.bootstrap import trust
    from distributor.microsoft.collection import find_gaps
    from distributor.microsoft.collection import issues as gap_issues
    from distributor.workflows.revocation import judged

    if not certificates:
        return CheckedCertificates()
    sought = find_gaps(collection, certificates)
    people = [one for one in sought if not one.member.authority]
    above = [member.der for member in certificates if member.authority]
    lacks = [one for one in sought if one.member.authority]
    issues: list[Issue] = []
    wrong: set[bytes] = set()
    with trust.collection_checker([member.der for member in collection], table, now, offline=offline) as checker:
        for one, found in zip(people, judged([(each.member.der, above) for each in people], checker), strict=True):
            if one.lacks and any(issue.check in CHAIN for issue in found):
                lacks.append(one)  # its issue names the certificate to add
                found = [issue for issue in found if issue.check not in CHAIN]  # noqa: PLW2901
            if one in lacks or any(issue.severity is Severity.ERROR for issue in found):
                wrong.add(one.member.der)
            address = next(iter(one.member.facts.addresses), None)
            issues += [replace(issue, source=one.member.source, address=address) for issue in found]
    missing = [replace(issue, severity=Severity.WARNING) if checker.soft else issue for issue in gap_issues(lacks)]
    return CheckedCertificates(tuple(sought), (*missing, *issues), frozenset(wrong))


def configured(chosen: Path | None) -> TrustSettings | None:
    """`[trust]` of the configuration; a configuration that was not named may be missing."""
    from distributor import bootstrap

    try:
        return bootstrap.settings(chosen).trust
    except InvalidInput:
        if chosen is not None:
            raise
        return None
