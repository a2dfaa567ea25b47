"""The error classes: one root, a subclass for each exit code (CLI: Exit codes)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar


class Error(Exception):
    """An expected failure, reported to a person.

    `message` is lower case without a full stop, `where` is the place, shown before it (a file and line, a dotted key, a host and
    port), `hint` is an action or a command. None of them may carry a secret or a payload.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, where: str | None = None, hint: str | None = None) -> None:
        self.message = message
        self.where = where
        self.hint = hint
        super().__init__(message)

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message

    def __reduce__(self) -> tuple[object, ...]:
        return (_again, (type(self), self.message, self.where, self.hint))


def _again(kind: type[Error], message: str, where: str | None, hint: str | None) -> Error:
    return kind(message, where=where, hint=hint)


class RequestDenied(Error):
    """The request cannot be granted: a password that was shown already, a person unknown to the ledger. Exit 1."""


class UsageError(Error):
    """The command line is wrong, or a prompt could not be asked. Exit 2."""

    exit_code = 2


class InvalidInput(Error):
    """Configuration, input or ledger that cannot be used at all. Exit 3."""

    exit_code = 3


class NoLedger(InvalidInput):
    """There is no ledger yet, or no longer: no file, or a database without tables. Exit 3."""


class ErrorGroup(InvalidInput):
    """Several faults of one input, a line each. Exit 3."""

    def __init__(self, faults: Sequence[Error], *, hint: str | None = None) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(str(fault) for fault in faults), hint=hint)

    def __reduce__(self) -> tuple[object, ...]:
        return (_error_group, (self.faults, self.hint))


def _error_group(faults: tuple[Error, ...], hint: str | None) -> ErrorGroup:
    return ErrorGroup(faults, hint=hint)


class ServiceUnavailable(Error):
    """A service refused or cannot be reached, or the ledger stays locked; the same command may be repeated. Exit 4."""

    exit_code = 4


class Interrupted(Error):
    """Stopped by the person at the keyboard; nothing is lost. Exit 130."""

    exit_code = 130
