"""`distributor audit checkpoint` and `audit key`, and the checkpoints that `audit verify --checkpoint` is given."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from distributor.cli.options import Config, replacing
from distributor.cli.render import counted, escape, stderr_line, stdout_line, time
from distributor.errors import Error, ErrorGroup, InvalidInput, UsageError

if TYPE_CHECKING:
    from distributor.config import Settings
    from distributor.model.checkpoints import CheckpointComparison, VerifierKey
    from distributor.model.ports import Ledger
    from distributor.pki.timestamps import TimeStamp
    from distributor.workflows.checkpoints import Signed

EXAMPLE = "\b\nexample:\n  distributor audit checkpoint --output checkpoint.txt"
KEY_EXAMPLE = "\b\nexample:\n  distributor audit key"
LARGEST = 2**26  # bytes of a file with checkpoints; a log may have many
STAMP = ".tst"  # the suffix of a checkpoint's time stamp


# --- signing ---------------------------------------------------------------------------------------------------------


def checkpoint(
    output: Annotated[
        Path | None, typer.Option("--output", metavar="FILE", readable=False, help="Output file; default: stdout.", show_default=False)
    ] = None,
    after_run: Annotated[bool, typer.Option("--after-run", help="Publish only if there are new events; failures are warnings.")] = False,
    chosen: Config = None,
) -> None:
    """Sign a checkpoint of all events, and publish it where `audit.checkpoints` says.

    With a checkpoint that is kept elsewhere, `audit verify --checkpoint FILE` proves that no event before it was changed or removed.
    """
    from distributor import bootstrap

    settings = bootstrap.settings(chosen)
    if after_run:
        try:
            failed = _sign(settings, None, by_hand=False)
        except Error as error:
            failed = [error]
        for one in failed:
            stderr_line(f"warning: {escape(one)}")
            if one.hint:
                stderr_line(f"hint: {escape(one.hint)}")
        return
    failed = _sign(settings, output, by_hand=True)
    if failed:
        raise failed[0] if len(failed) == 1 else ErrorGroup(failed, hint="correct `audit.checkpoints`, then run the command again")


def _sign(settings: Settings, output: Path | None, *, by_hand: bool) -> list[Error]:
    """Sign, show and publish; what failed after it was signed. By mail it goes once a day, and always when asked for by hand."""
    from distributor import bootstrap
    from distributor.bootstrap import checkpoints
    from distributor.workflows.checkpoints import first_of_its_day

    failed: list[Error] = []
    with bootstrap.open_for_writing(settings) as ledger:
        signed = checkpoints.sign(settings, ledger, failed.append)
        if signed is None:
            stderr_line("no events yet, so there is nothing to sign")
        elif by_hand or signed.new:
            if by_hand:
                _show(signed, output)
            for place, error in checkpoints.publish(settings, ledger, signed, mail=by_hand or first_of_its_day(signed)):
                if error is not None:
                    failed.append(error)
                elif by_hand:
                    stderr_line(f"published: {escape(place)}")
    bootstrap.written.pop(settings.file, None)  # events of this command are in the next checkpoint
    return failed


def _show(signed: Signed, output: Path | None) -> None:
    number = counted(signed.stored.size, "event")
    if output is None:
        stdout_line(signed.stored.note.rstrip("\n"))
        stderr_line(f"checkpoint of {number}{'' if signed.new else ', signed before'}; keep it where nobody can change it")
        return
    with replacing(output, 0o644, such_as="checkpoint.txt") as file:
        file.write(signed.stored.note.encode())
    if signed.stored.token is not None:
        with replacing(output.with_suffix(STAMP), 0o644, such_as="checkpoint.txt") as file:
            file.write(signed.stored.token)
    stderr_line(f"checkpoint of {number} in {escape(output)}; next: distributor audit verify --checkpoint {escape(output)}")


def key(chosen: Config = None) -> None:
    """Show the public key that checkpoints are verified with; make the key if there is none."""
    from distributor import bootstrap
    from distributor.bootstrap import checkpoints

    settings = bootstrap.settings(chosen)
    reference = bootstrap.checkpoint_key(settings)
    with bootstrap.open_for_reading(settings) as ledger:
        if reference.path is not None and not os.path.lexists(reference.path):
            _make(reference.path, ledger)
        stdout_line(str(checkpoints.signer(settings, ledger).key))


def _make(path: Path, ledger: Ledger) -> None:
    from distributor.bootstrap import checkpoints
    from distributor.files import atomic

    signed = ledger.last_checkpoint() is not None
    try:
        atomic.write_new(path, checkpoints.new_key().reveal().encode())
    except OSError as error:
        raise InvalidInput(
            (error.strerror or "cannot be written").lower(), where=str(path), hint="check the folder's permissions"
        ) from None
    stderr_line(f"{escape(path)} created: it signs checkpoints of the audit log; keep a copy")
    if signed:
        stderr_line("warning: earlier checkpoints were signed with another key; keep its public key to verify them")


# --- verification ----------------------------------------------------------------------------------------------------


class GivenCheckpoints(NamedTuple):
    """The checkpoints of files, to be compared with a chain, and the valid time stamps beside them by the name of the file."""

    comparison: CheckpointComparison
    stamps: dict[str, TimeStamp]

    def lines(self) -> Iterator[str]:
        """What matched, a line for each file."""
        for name, sizes in self._sizes().items():
            stamp = self.stamps.get(name)
            by = "" if stamp is None else f"; time stamp {time(stamp.at)} by {stamp.authority} (certificate {stamp.certificate})"
            of = name if len(sizes) == 1 else f"{name} ({len(sizes)} checkpoints)"
            yield f"{counted(max(sizes), 'event')} of {of}: none changed, none missing{by}"

    def _sizes(self) -> dict[str, list[int]]:
        found: dict[str, list[int]] = {}
        for one in self.comparison.matching:
            found.setdefault(one.name, []).append(one.size)
        return found


def parse_keys(texts: Sequence[str]) -> list[VerifierKey]:
    """The values of --key. Raises UsageError."""
    from distributor.model.checkpoints import parse_key

    try:
        return [parse_key(text) for text in texts]
    except ValueError as error:
        raise UsageError(f"--key: {error}", hint="`distributor audit key` shows it") from None


def own_keys(chosen: Path | None) -> list[VerifierKey]:
    """The key of this workspace; none where there is no workspace here."""
    from distributor import bootstrap
    from distributor.bootstrap.checkpoints import public_keys

    try:
        settings = bootstrap.settings(chosen)
    except InvalidInput:
        if chosen is not None:
            raise
        return []
    with bootstrap.open_for_reading(settings) as ledger:
        return public_keys(settings, ledger)


def keys_of(settings: Settings, ledger: Ledger) -> list[VerifierKey] | None:
    """The key of this workspace; None where the ledger's name, which belongs to it, cannot be read: verification says why."""
    from distributor.bootstrap.checkpoints import public_keys

    try:
        ledger.identity()
    except InvalidInput:
        return None
    return public_keys(settings, ledger)


def read(files: Sequence[Path], keys: Sequence[VerifierKey]) -> GivenCheckpoints:
    """The checkpoints in these files; their faults become findings. Raises InvalidInput without a key or for a file that cannot be read."""
    from distributor.model.checkpoints import CheckpointComparison
    from distributor.pki import timestamps
    from distributor.pki.ed25519 import verify
    from distributor.workflows import checkpoints

    if not files:
        return GivenCheckpoints(CheckpointComparison(()), {})
    if not keys:
        hint = "add --key KEY, with what `distributor audit key` shows where the ledger is"
        raise InvalidInput("no public key to verify checkpoints with", where=str(files[0]), hint=hint)
    texts, stamps, faults = [], {}, []
    for file in files:
        data = _data(file)
        texts.append((str(file), data.removeprefix(codecs.BOM_UTF8).decode(errors="replace")))
        if os.path.lexists(file.with_suffix(STAMP)) and file.suffix != STAMP:
            try:
                stamps[str(file)] = timestamps.verify(_data(file.with_suffix(STAMP)), data)
            except timestamps.BadToken as error:
                faults.append(f"{file.with_suffix(STAMP)}: the time stamp of {file.name} is not valid: {error}")
    return GivenCheckpoints(checkpoints.comparison(texts, keys, verify, faults), stamps)


def _data(file: Path) -> bytes:
    from distributor.files.reader import FileRefused, read_file

    try:
        return read_file(file, LARGEST, follow=True)
    except FileRefused as refused:
        raise InvalidInput(refused.message, where=str(file), hint="use a file from `distributor audit checkpoint`") from None
