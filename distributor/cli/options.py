"""Options that several commands share, output files and questions.

A path is checked by the command, not by typer, which calls an unreadable file a usage error; here it is invalid input (exit 3).
`readable=False` in every declaration of a path turns typer's check off.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from distributor.cli.log import LogFormat
from distributor.cli.render import wrapped
from distributor.errors import InvalidInput, RequestDenied, UsageError


def _before_or_after(context: typer.Context, value: Path | None) -> Path | None:
    """The configuration named after the command, else the one named before it."""
    return value or context.find_root().params.get("chosen")


def is_folder(path: Path) -> bool:
    """Whether it is a folder that this user can see. `Path.is_dir` raises PermissionError inside a folder that cannot be entered."""
    return os.path.isdir(path)  # noqa: PTH112  never raises


def listable(value: Path | None) -> Path | None:
    """A folder of passwords must be listable, since files are looked up by name. Raises InvalidInput."""
    if value is not None and is_folder(value) and not os.access(value, os.R_OK | os.X_OK):
        raise InvalidInput("permission denied", where=str(value), hint="choose a folder that you may read")
    return value


Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        callback=_before_or_after,
        readable=False,
        help="Configuration file; default: $DISTRIBUTOR_CONFIG, else ./distributor.toml.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
LogOption = Annotated[LogFormat, typer.Option("--log", help="How commands that keep running write their log to stderr.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
Reason = Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; recorded in the ledger.")]


# --- what is planned -------------------------------------------------------------------------------


Sources = Annotated[
    list[Path] | None,
    typer.Argument(metavar="SOURCE", readable=False, help="A .pfx/.p12, a folder, a flat .zip, PEM pairs; default: [[sources]]."),
]
Roster = Annotated[
    Path | None,
    typer.Option("--roster", metavar="FILE", readable=False, help="People as CSV; else [[rosters]], else each certificate's own address."),
]
Passwords = Annotated[
    Path | None,
    typer.Option(
        "--passwords",
        metavar="PATH",
        readable=False,
        callback=listable,
        help="Passwords of the files: a CSV, or a folder with NAME.txt for each.",
    ),
]
Offline = Annotated[bool, typer.Option("--offline", help="Download no CRLs and no issuer certificates: revocation is not checked.")]
History = Annotated[bool, typer.Option("--history", help="Also expired certificates, whose keys are needed to read old mail.")]
Both = Annotated[bool, typer.Option("--both", help="Also people who are served by the other way: by mail, or by Intune.")]


# --- names of deliveries -------------------------------------------------------------------------
#
# A delivery is named by its address, its id or its certificate; the shell completes addresses and ids.


def complete_name(context: typer.Context, incomplete: str) -> list[str]:
    """Addresses and ids of the ledger that begin so; none where it cannot be read, for the shell shows no errors."""
    with suppress(Exception, SystemExit):
        from distributor import bootstrap

        chosen = context.params.get("chosen") or context.find_root().params.get("chosen")
        with bootstrap.open_for_reading(bootstrap.settings(chosen)) as ledger:
            return ledger.completions(incomplete)
    return []


DeliveryName = Annotated[
    str,
    typer.Argument(
        metavar="ADDRESS",
        autocompletion=complete_name,
        help="Or a delivery's id, or a certificate's serial number or SHA-256; the beginning is enough.",
    ),
]
CertificateName = Annotated[
    str | None,
    typer.Option("--certificate", metavar="SERIAL", help="For a person with several: serial number or SHA-256; the beginning is enough."),
]


# --- output file --------------------------------------------------------------------------------
#
# Writes the output file of a command atomically, and makes the folders that commands write into.


@contextmanager
def replacing(path: Path, mode: int, *, such_as: str) -> Iterator[BinaryIO]:
    """A file to write to, with this mode whatever the umask. `such_as`: a file name for hints. Raises InvalidInput."""
    from distributor.files import atomic

    if is_folder(path):
        raise InvalidInput("this is a folder, not a file", where=str(path), hint=f"name a file in it: --output {path / such_as}")
    try:
        with atomic.partial_file(path, mode) as (file, part):
            yield file
        atomic.publish(part, path)
    except OSError as error:
        raise InvalidInput(
            (error.strerror or "cannot be written").lower(), where=str(path), hint="free some space, or choose another file"
        ) from None
    with suppress(OSError):  # not every file system can
        atomic.sync_folder(path.parent)


def make_folder(folder: Path) -> None:
    """Make a private folder, unless it is there. Raises InvalidInput."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(
            (error.strerror or "cannot be made").lower(), where=str(folder), hint="choose a folder that you may write to"
        ) from None


# --- prompt --------------------------------------------------------------------------------
#
# Asks questions on the terminal; without one, the error names the flag that answers them.


def confirm(question: str, flag: str, otherwise: str = "nothing sent") -> None:
    """Ask yes or no on the terminal before sending. Raises RequestDenied after a no, UsageError where there is no terminal."""
    if not can_ask():
        raise UsageError("cannot ask for confirmation without a terminal", hint=f"add {flag} to skip the question")
    sys.stderr.write(wrapped(f"{question} [y/N]", 2) + " ")
    sys.stderr.flush()
    if sys.stdin.buffer.readline().strip().lower() not in {b"y", b"yes"}:
        raise RequestDenied(f"cancelled; {otherwise}")


def can_ask() -> bool:
    """Whether a question can be asked: on stderr, with the answer from stdin."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def wait_for_enter() -> None:
    """Wait for Enter; bytes that are not text are ignored."""
    sys.stdin.buffer.readline()
