"""Composes the chain checker that `[trust]` configures, and what `distributor trust` needs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from distributor.config.schema import TrustSeverity
from distributor.errors import InvalidInput
from distributor.files.reader import FileRefused, read_file

if TYPE_CHECKING:
    from datetime import datetime

    from distributor.config import Settings
    from distributor.config.schema import TrustSettings
    from distributor.microsoft.ldap_lookup import LdapProbe
    from distributor.model.certificates import ParsedIdentities, SourceMaterial
    from distributor.model.issues import Issue, WorkerFailure
    from distributor.model.limits import Limits
    from distributor.model.ports import WorkerPool
    from distributor.pki.pem import KeyFingerprint, UnpairedFile
    from distributor.workflows.revocation import ChainChecker

LARGEST_FILE = 16 * 2**20  # bytes; all 434 roots that Windows knows have 0.7 MB
_HINT = "name a .sst file or a folder of PEM files (see docs/trust.md#the-tenants-collection)"


@contextmanager
def chain_checker(settings: Settings, now: datetime, *, offline: bool = False) -> Iterator[ChainChecker | None]:
    """The checker that `[trust]` configures; None where it is not configured. Offline, nothing is fetched."""
    if settings.trust is None:
        yield None
        return
    with collection_checker(collection(settings.trust.collection), settings.trust, now, offline=offline) as checker:
        yield checker


@contextmanager
def collection_checker(
    certificates: Sequence[bytes], table: TrustSettings | None, now: datetime, *, offline: bool = False
) -> Iterator[ChainChecker]:
    """A checker that trusts these certificates of a collection, strict as `[trust]` says or by default."""
    from distributor.clients.downloads import DownloadCache
    from distributor.pki.validation.path import build_trust_store
    from distributor.workflows.revocation import ChainChecker

    with DownloadCache(private=table is not None and table.private_addresses) as web:
        soft = table is not None and table.severity is TrustSeverity.WARNING
        yield ChainChecker(build_trust_store(certificates, now), None if offline else web, now, soft=soft)


def collection(path: Path) -> tuple[bytes, ...]:
    """The certificates in a collection, in DER: a .sst, a folder of PEM, DER or PKCS#7 files, or one such file. Raises InvalidInput."""
    files = _files(path)
    found = tuple(der for file in files for der in _certificates(file))
    if not found:
        raise InvalidInput("no certificate found", where=f'trust.collection "{path}"', hint=_HINT)
    return found


def opened(
    files: Sequence[Path], passwords: Path | None, limits: Limits
) -> Iterator[tuple[SourceMaterial, ParsedIdentities | WorkerFailure] | Issue]:
    """People's PFX files, opened by child processes with the passwords beside them or in `passwords`, as `plan` does it."""
    from distributor.adapters.sources import files as file_source
    from distributor.bootstrap.inputs import CHILD_MEMORY, cores
    from distributor.model.certificates import SourceMaterial
    from distributor.pki import parse_material
    from distributor.workers.pool import Workers

    found = file_source.open(file_source.Settings(tuple(file.absolute() for file in files), passwords, limits), _pairs).finds({})
    materials = []
    for find in found:
        if isinstance(find, SourceMaterial):
            materials.append(find)
        elif find.severity == "error":
            yield find
    with Workers(partial(parse_material, limits=limits), cores(), limits.open_seconds, CHILD_MEMORY) as pool:
        yield from pool.map(iter(materials))


def _pairs() -> AbstractContextManager[WorkerPool[UnpairedFile, KeyFingerprint]]:
    raise AssertionError("only PFX files are asked for")


def probe_ldap(host: str, addresses: Sequence[str]) -> LdapProbe:
    """What an LDAP server answers to a phone that looks for certificates of these addresses."""
    from distributor.adapters.directories import ldap

    return ldap.probe(host, addresses)


def _files(path: Path) -> list[Path]:
    from distributor.pki.pem import EXTENSIONS

    try:
        if not path.is_dir():
            return [path]
        return sorted(file for file in path.iterdir() if file.suffix.lower() in EXTENSIONS and not file.name.startswith("."))
    except OSError as error:
        raise _unreadable(path, error) from None


def _certificates(file: Path) -> tuple[bytes, ...]:
    from distributor.pki import pem
    from distributor.pki.asn1 import Unreadable

    try:
        return tuple(stored.certificate for stored in pem.read(_bytes(file)))
    except Unreadable as error:
        raise InvalidInput(str(error), where=f'trust.collection "{file}"', hint=_HINT) from None


def _bytes(file: Path) -> bytes:
    try:
        return read_file(file, LARGEST_FILE, follow=True)
    except FileRefused as refused:
        raise InvalidInput(refused.message, where=f'trust.collection "{file}"', hint=_HINT) from None


def _unreadable(path: Path, error: OSError) -> InvalidInput:
    return InvalidInput((error.strerror or "cannot be read").lower(), where=f'trust.collection "{path}"', hint=_HINT)
