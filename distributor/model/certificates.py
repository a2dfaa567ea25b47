"""A certificate with its private key, what it says of itself, and where it was found. Values only; `pkcs12.py` and `pem.py` read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from distributor.model.issues import CheckId
from distributor.model.secret import Secret


@dataclass(frozen=True, slots=True)
class Limits:
    """How much an incoming file may cost. Defaults as in the configuration's `[limits]`."""

    file: int = 2**20  # bytes; a real PFX with a chain has 4 to 10 KiB
    archive: int = 512 * 2**20  # bytes
    iterations: int = 2_000_000  # of all key derivations in one file together (facts: reliability.md 0.8)
    open_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class FilePart:
    """One file (or one member of a zip) as it was read: `source` is its name for people, `path` and `member` find it again."""

    source: str
    path: str  # absolute
    member: str | None
    sha256: str  # of `data`, lower-case hex
    data: bytes


@dataclass(frozen=True, slots=True)
class SourceMaterial:
    """What may hold credentials: one PFX, or a PEM certificate (with chain) and its key in one or two parts; passwords to try, in order."""

    form: str  # "pkcs12" | "pem"
    parts: tuple[FilePart, ...]
    passwords: tuple[Secret, ...] = ()
    requested_for: str = ""  # the Address.key of the person whose row names it

    @property
    def source(self) -> str:
        """The name that issues show."""
        return self.parts[0].source


@dataclass(frozen=True, slots=True)
class Locator:
    """How to find a credential again at `send`: the parts with their hashes and which leaf in them. Kept in the ledger as JSON."""

    form: str
    parts: tuple[tuple[str, str | None, str], ...]  # (absolute path, member, sha256)

    def as_json(self) -> dict[str, object]:
        """The ledger's form."""
        return {"form": self.form, "parts": [list(part) for part in self.parts]}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Locator:
        """From the ledger's form."""
        parts = value["parts"]
        if not isinstance(parts, list):
            raise TypeError("parts")
        return cls(str(value["form"]), tuple((str(p), None if m is None else str(m), str(h)) for p, m, h in parts))


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """What a certificate says. `addresses` are its rfc822Name and SmtpUTF8Mailbox values as written; times are aware UTC."""

    sha256: str  # of the DER, lower-case hex
    serial: str  # lower-case hex without a prefix
    subject: str  # RFC 4514
    issuer: str
    addresses: tuple[str, ...]
    subject_addresses: tuple[str, ...]  # emailAddress in the subject and a commonName with an @; never enough alone
    not_before: datetime
    not_after: datetime
    key: str  # "rsa-2048", "ec-p256", "ed25519"
    signature: str  # hash of the issuer's signature: "sha256", "sha1"; "" when the algorithm has none
    is_ca: bool
    key_usage: frozenset[str] | None  # names as in RFC 5280 ("digitalSignature", ...); None: no extension
    extended_key_usage: frozenset[str] | None  # dotted OIDs; None: no extension
    usages: tuple[str, ...]  # what mail programs may do with it: of "sign", "encrypt"


@dataclass(frozen=True, slots=True)
class Identity:
    """One identity: leaf and chain in DER, the key in PKCS#8 DER held as a Secret of its base64, proven to belong together."""

    facts: CertificateInfo
    leaf: bytes
    chain: tuple[bytes, ...]  # CA certificates that came with it, issuer of the leaf first, self-signed last
    key: Secret | None  # None where only the facts were wanted (`plan`)


@dataclass(frozen=True, slots=True)
class ParseProblem:
    """Why a material, or one identity in it, was refused."""

    check: CheckId
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class ParsedIdentities:
    """What a material held: every good identity, and what was wrong with the rest."""

    identities: tuple[Identity, ...] = ()
    problems: tuple[ParseProblem, ...] = ()
