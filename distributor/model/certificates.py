"""Values for certificates with private keys: where they were found, what they contain, and why they were refused. `pki` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from distributor.model.issues import CheckId
from distributor.model.secret import Secret


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits for one incoming file (`[limits]` in the configuration)."""

    file: int = 2**20  # bytes; a real PFX with a chain has 4 to 10 KiB
    archive: int = 512 * 2**20  # bytes
    iterations: int = 2_000_000  # of all key derivations in one file together (facts: reliability.md 0.8)
    open_seconds: float = 10.0


@dataclass(frozen=True, slots=True)
class FilePart:
    """A file, or a member of a zip, as it was read. `source` is its name in messages, `path` and `member` find it again."""

    source: str
    path: str  # absolute
    member: str | None
    sha256: str  # of `data`, lower-case hex
    data: bytes


@dataclass(frozen=True, slots=True)
class SourceMaterial:
    """A PFX, or a PEM certificate (with chain) and its key in one or two parts, with the passwords to try, in order."""

    form: str  # "pkcs12" | "pem"
    parts: tuple[FilePart, ...]
    passwords: tuple[Secret, ...] = ()
    requested_for: str = ""  # the Address.key of the person whose row names it

    @property
    def source(self) -> str:
        """The name in issues."""
        return self.parts[0].source


@dataclass(frozen=True, slots=True)
class Locator:
    """Where to find a material again at `send`: its parts with their hashes. Kept in the ledger as JSON."""

    form: str
    parts: tuple[tuple[str, str | None, str], ...]  # (absolute path, member, sha256)

    def as_json(self) -> dict[str, object]:
        """As the ledger keeps it."""
        return {"form": self.form, "parts": [list(part) for part in self.parts]}

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Locator:
        """From what the ledger kept."""
        parts = value["parts"]
        if not isinstance(parts, list):
            raise TypeError("parts")
        return cls(str(value["form"]), tuple((str(p), None if m is None else str(m), str(h)) for p, m, h in parts))


@dataclass(frozen=True, slots=True)
class CertificateInfo:
    """The fields of a certificate. `addresses` are its rfc822Name and SmtpUTF8Mailbox values as written; times are aware UTC."""

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
    usages: tuple[str, ...]  # of "sign" and "encrypt": what mail programs may use it for


@dataclass(frozen=True, slots=True)
class Identity:
    """A certificate and its chain in DER and its key (base64 of PKCS#8 DER), verified to belong together."""

    facts: CertificateInfo
    leaf: bytes
    chain: tuple[bytes, ...]  # CA certificates that came with it, issuer of the leaf first, self-signed last
    key: Secret | None  # None where only the certificate is needed (`plan`)


@dataclass(frozen=True, slots=True)
class ParseProblem:
    """Why a material, or one identity in it, was refused."""

    check: CheckId
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class ParsedIdentities:
    """The result of parsing a material: every good identity, and the problems of the rest."""

    identities: tuple[Identity, ...] = ()
    problems: tuple[ParseProblem, ...] = ()
