"""PEM and DER files -> pairs of certificate and key: of one stem, in one file, else by equal public keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from cryptography import x509

from distributor.core import certificates, identities, pem
from distributor.core.credentials import Facts, Limits, Material, Part
from distributor.core.findings import Check, Issue, Severity
from distributor.core.pbe import Unsupported
from distributor.core.pem import blocks
from distributor.core.secret import Secret
from distributor.sources._files import Entry

Secrets = Callable[[list[Entry], None], tuple[Secret, ...]]


class Loose:
    """Certificates and keys that found no partner of the same stem."""

    def __init__(self, secrets: Secrets, limits: Limits) -> None:
        self._secrets = secrets
        self._limits = limits
        self._certificates: list[tuple[Entry, Part]] = []
        self._keys: list[tuple[Entry, Part]] = []

    def sort(self, parts: Mapping[Entry, Part]) -> list[Entry]:
        """The files of one stem that are an identity together; the others are kept for later."""
        kinds = {entry: _kinds_of(part.data) for entry, part in parts.items()}
        certificates = [entry for entry, (certificate, _) in kinds.items() if certificate]
        keys = [entry for entry, (_, key) in kinds.items() if key]
        if certificates and keys:
            return list(dict.fromkeys(certificates + keys))
        for entry, part in parts.items():
            (self._keys if kinds[entry][1] else self._certificates).append((entry, part))
        return []

    def settle(self) -> Iterator[Material | Issue]:
        """Pairs by public key; what is left goes alone, so that opening it says what it lacks."""
        keys = {entry: _public_of_key(part, self._secrets([entry], None), self._limits) for entry, part in self._keys}
        taken: set[Entry] = set()
        for entry, part in self._certificates:
            public = _public_of_certificate(part)
            partner = next((e for e in keys if e not in taken and keys[e] == public and public is not None), None)
            partner = partner or self._only_key(keys)
            if partner is not None:
                taken.add(partner)
                other = next(p for e, p in self._keys if e == partner)
                yield Material("pem", (part, other), self._secrets([entry, partner], None))
            elif _is_authority(part):
                yield _authority(entry)
            else:
                yield Material("pem", (part,))
        for entry, part in self._keys:
            if entry not in taken:
                yield Material("pem", (part,), self._secrets([entry], None))

    def _only_key(self, keys: Mapping[Entry, bytes | None]) -> Entry | None:
        """One certificate and one key that cannot be compared (its password is missing) must be meant for each other."""
        if len(keys) == len(self._certificates) == 1 and None in keys.values():
            return next(iter(keys))
        return None


def _authority(entry: Entry) -> Issue:
    message = "it holds certificates of authorities only and was left alone"
    return Issue(Severity.NOTE, Check.NO_KEY, message, "put the chain into the person's own file if it is to be sent", entry.source)


def _kinds_of(data: bytes) -> tuple[bool, bool]:
    """Whether there is a certificate and whether there is a key in it."""
    try:
        found = list(blocks(data))
    except (Unsupported, IndexError):
        return False, False
    return any(block.is_certificate for block in found), any(block.is_key for block in found)


def _public_of_certificate(part: Part) -> bytes | None:
    try:
        first = next((block for block in blocks(part.data) if block.is_certificate), None)
    except (Unsupported, IndexError):
        return None
    found = certificates.load(first.der) if first is not None else None
    return identities.public(found) if isinstance(found, x509.Certificate) else None


def _is_authority(part: Part) -> bool:
    try:
        found = [certificates.load(block.der) for block in blocks(part.data) if block.is_certificate]
    except (Unsupported, IndexError):
        return False
    facts = [certificates.facts(one, b"") for one in found if isinstance(one, x509.Certificate)]
    return bool(facts) and len(facts) == len(found) and all(isinstance(one, Facts) and one.is_ca for one in facts)


def _public_of_key(part: Part, secrets: tuple[Secret, ...], limits: Limits) -> bytes | None:
    try:
        block = next(block for block in pem.blocks(part.data) if block.is_key)
        if not 0 <= pem.rounds(block) <= limits.iterations:
            return None
    except (Unsupported, StopIteration, ValueError, IndexError):
        return None
    for secret in secrets if block.encrypted else (None,):
        try:
            return identities.spki(pem.load_key(block, secret).public_key())
        except Unsupported:
            continue
    return None
