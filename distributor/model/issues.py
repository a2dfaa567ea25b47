"""Results of checks: issues of `plan`, diagnostics of `doctor`, failures of workers. Names of checks are a contract (CLI: Sending)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """The severity of an issue: an error keeps that delivery out of the plan."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class CheckId(StrEnum):
    """The names of the checks."""

    UNREADABLE = "unreadable"
    WRONG_PASSWORD = "wrong-password"  # noqa: S105  a check's name
    NO_KEY = "no-key"
    KEY_MISMATCH = "key-mismatch"
    NO_MAC = "no-mac"
    TOO_COSTLY = "too-costly"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    EXPIRES_SOON = "expires-soon"
    NO_ADDRESS = "no-address"
    ADDRESS_MISMATCH = "address-mismatch"
    ADDRESS_CASE = "address-case"
    SEVERAL_ADDRESSES = "several-addresses"
    BAD_ADDRESS = "bad-address"
    NOT_FOR_MAIL = "not-for-mail"
    KEY_USAGE = "key-usage"
    WEAK_KEY = "weak-key"
    WEAK_SIGNATURE = "weak-signature"
    KEY_TYPE = "key-type"
    IS_CA = "is-ca"
    DUPLICATE = "duplicate"
    NO_CERTIFICATE = "no-certificate"
    NO_PERSON = "no-person"
    ALREADY_SENT = "already-sent"
    BAD_ROW = "bad-row"
    BAD_ENCODING = "bad-encoding"
    UNSAFE_PATH = "unsafe-path"
    CHAIN_INCOMPLETE = "chain-incomplete"
    CHAIN_UNTRUSTED = "chain-untrusted"
    REVOKED = "revoked"
    CRL_UNREACHABLE = "crl-unreachable"
    CRL_STALE = "crl-stale"
    LINT = "lint"
    NOT_PUBLISHED = "not-published"
    COLUMNS = "columns"
    NO_MAILBOX = "no-mailbox"
    OTHER_WAY = "other-way"


@dataclass(frozen=True, slots=True)
class Issue:
    """A finding. `source` is a file's name (`archive.zip/member.pfx` inside a zip), `line` the first physical line of a row."""

    severity: Severity
    check: CheckId
    message: str
    hint: str | None = None
    source: str | None = None
    line: int | None = None
    address: str | None = None


@dataclass(frozen=True, slots=True)
class CheckedChain:
    """The result of checking a certificate's chain.

    `path`: the CA certificates of the path that was validated, in DER, issuer of the leaf first; None where no path is in order.
    """

    issues: list[Issue]
    path: tuple[bytes, ...] | None = None


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One line of `doctor`: `level` is "ok", "warning" or "error"."""

    area: str
    level: str
    message: str
    hint: str | None = None


@dataclass(frozen=True, slots=True)
class WorkerFailure:
    """A job whose child process did not finish it: `reason` is "time", "memory" or "crash"."""

    reason: str
