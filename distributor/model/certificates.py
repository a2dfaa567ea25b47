"""Values for certificates with private keys: where they were found, what they contain, and why they were refused. `pki` makes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from distributor.model.issues import CheckId, Issue
from distributor.model.people import Address
from distributor.model.secret import Secret
from distributor.model.states import State


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
    issuers: tuple[bytes, ...] = ()  # CA certificates in DER from files beside it, which may complete its chain

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
    subject_addresses: tuple[str, ...]  # emailAddress in the subject and a commonName with an @; they count where `addresses` is empty
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
    further: tuple[bytes, ...] = ()  # CA certificates that came with it and are above it on other paths; only where `key` is None


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


# --- publishing --------------------------------------------------------------------------------
# Publishing certificates in directories: values, the port of a directory, and the ledger's methods.


@dataclass(frozen=True, slots=True)
class PublishableCertificate:
    """A certificate that a person received. `lost`: its message bounced after it was published."""

    delivery: str
    sha256: str
    leaf: bytes
    not_before: datetime
    not_after: datetime
    revoked: bool = False
    places: frozenset[str] = frozenset()  # directories that it is published in, as far as the ledger knows
    lost: bool = False


@dataclass(frozen=True, slots=True)
class CertificateHolder:
    """A person who received certificates, the newest first."""

    address: str
    name: str
    certificates: tuple[PublishableCertificate, ...]


@dataclass(frozen=True, slots=True)
class PublicationRequest:
    """What to publish for a person: `leaf` is written (nothing new where None), the certificates in `gone` are removed."""

    address: Address
    name: str
    leaf: bytes | None
    gone: frozenset[str] = frozenset()  # SHA-256 of the person's certificates that were revoked, expired or bounced


@dataclass(frozen=True, slots=True)
class PublicationResult:
    """The result for a person. `entry`: where in the directory; `changed`: False where nothing had to be written."""

    entry: str
    changed: bool = True
    warning: Issue | None = None  # what is wrong with the entry
    removed: frozenset[str] = frozenset()  # SHA-256 of the certificates in `gone` that were removed
    holds: bool = True  # False: the new certificate was not written, and `warning` says why


class PublicDirectory(Protocol):
    """A directory in which others look up certificates to encrypt to."""

    where: str  # its name, for people and in the ledger; never with a secret

    def publish(self, public: PublicationRequest, now: datetime) -> PublicationResult | Issue:
        """Publish for one person; certificates in `gone` are removed even where the new one cannot be written.

        Returns an Issue where nothing was changed for this person. Raises ServiceUnavailable or InvalidInput where nobody can be published.
        """
        ...

    def close(self) -> None:
        """Close open connections."""
        ...


class Publications(Protocol):
    """The ledger's methods about received certificates and where they are published."""

    def holders(self) -> Iterator[CertificateHolder]:
        """Every person who received certificates, with all of theirs; streams."""
        ...

    def note_published(self, delivery: str, place: str, entry: str) -> None:
        """Record that a delivery's certificate is published there, with an event `published`."""
        ...

    def note_unpublished(self, delivery: str, place: str, entry: str, *, found: bool = False) -> None:
        """Record that it was removed there, with an event `unpublished`. `found`: it was there although the ledger did not know."""
        ...


# --- revoking --------------------------------------------------------------------------------
# Revocation of certificates that were planned or sent: values, and the ledger's methods.


@dataclass(frozen=True, slots=True)
class CertificateInUse:
    """A certificate of at least one delivery, as planned."""

    sha256: str
    leaf: bytes
    chain: tuple[bytes, ...]
    addresses: tuple[str, ...] = ()  # of the recipients
    revoked: str | None = None  # date and reason, where the ledger has recorded a revocation


@dataclass(frozen=True, slots=True)
class RevokedDelivery:
    """A delivery of a revoked certificate: withdrawn where it was not sent yet, else unchanged."""

    delivery: str
    address: str
    before: State
    after: State
    reason: str


class Revocations(Protocol):
    """The ledger's methods about certificates in use and their revocation."""

    def issued(self, now: datetime) -> Iterator[CertificateInUse]:
        """Every certificate of a delivery in use that has not expired, once; streams."""
        ...

    def revoke(self, certificate: str, reason: str) -> list[RevokedDelivery]:
        """Record `revoked` for its deliveries and withdraw unsent ones; returns those newly recorded or withdrawn."""
        ...

    def reinstate(self, certificate: str, reason: str) -> list[RevokedDelivery]:
        """Record `released` for its deliveries where it was on hold; returns them, or nothing where it was not."""
        ...

    def revoked(self, certificates: Sequence[str], leaves: Mapping[str, bytes] | None = None) -> Mapping[str, str]:
        """Those of the certificates that have a recorded revocation or incident, with its date and reason.

        `leaves`: further ones by SHA-256, in DER, which the ledger may not have yet; their keys may be known.
        """
        ...

    def taken_back(self) -> list[RevokedDelivery]:
        """Deliveries that `lease` and `claim` withdrew since the last call, because they must not be sent any more; each once.

        Also those that they held back unchanged, whose certificate has expired only by a clock that jumped.
        """
        ...
