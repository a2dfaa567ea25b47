"""`distributor password letters`: prints ready passwords into one PDF.

(1) The PDF is written beside its place, durable. (2) One transaction of the ledger hands all its passwords over and records the file.
(3) It gets its name, (4) which is recorded. Interrupted before (2), the file is worth nothing: the next command removes it and prints anew.
Interrupted after (2), the file is the only copy: the next command finds it through the ledger and does the rest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Yes, confirm, is_folder
from distributor.cli.progress import Bar
from distributor.cli.render import YELLOW, coloured, counted, escape, stderr_line, stdout_line, time
from distributor.errors import Error, Interrupted, InvalidInput, RequestDenied

if TYPE_CHECKING:
    from distributor.config import Settings
    from distributor.model.channels import LetterPrinter, LettersFile
    from distributor.model.ports import Ledger, Vault
    from distributor.workflows.letters import Letters

EXAMPLE = "\b\nexample:\n  distributor password letters --output letters.pdf"
REASON = "printed as a letter"
PART = ".distributor-letters."  # how the name of an unfinished file begins
_AGAIN = "run `distributor password letters` again to finish it"


def letters(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.pdf", readable=False, help="The PDF, which must not exist yet.")],
    plan: Annotated[str | None, typer.Option("--plan", metavar="PLAN", help="Only passwords of this plan.")] = None,
    yes: Yes = False,
    chosen: Config = None,
) -> int:
    """Print ready passwords as letters, one page a person, sorted by name.

    Covers passwords whose channel is "letter". Each is handed over by that: it is printed once, and then gone from the ledger.
    """
    from distributor import bootstrap
    from distributor.bootstrap import channels
    from distributor.cli.ledger import warn_clock_ahead

    settings = bootstrap.settings(chosen)
    printer, vault, output = channels.letter_printer(settings), bootstrap.vault(settings), output.absolute()
    with bootstrap.open_for_writing(settings, sends=True) as ledger:
        if plan is not None and ledger.plan_inputs(plan) is None:
            raise RequestDenied(f'there is no plan "{plan}"', hint="`distributor status --json` shows the plans of all deliveries")
        warn_clock_ahead(ledger)
        lost = _finish_earlier(ledger, bootstrap.who())
        _remove_abandoned(output.parent)
        _check_place(output)
        made = _made(settings, ledger, printer, vault, plan)
        for refused in made.refused:
            stderr_line(f"{escape(refused.address)}: not printed: {escape(refused.reason)} ({escape(refused.hint)})")
        if not made.letters:
            stderr_line("no password is ready for a letter" + ("" if made.refused or lost else "; next: distributor status"))
            return 1 if made.refused or lost else 0
        if not yes:
            number = counted(len(made.passwords), "password")
            confirm(f"Print {counted(len(made.letters), 'letter')} with {number} into {output}? Each can be printed only once.", "--yes")
        with Bar("printing", len(made.letters)) as bar:
            data = printer.print(made.letters, bar.step)
        _write(ledger, made, data, output)
    stdout_line(f"{escape(output)}: {counted(len(made.letters), 'letter')}, {counted(len(made.passwords), 'password')} handed over")
    stderr_line("next: print it, check that every page came out, then delete it; a lost letter: distributor resend ADDRESS --reason TEXT")
    return 1 if made.refused or lost else 0


def _made(settings: Settings, ledger: Ledger, printer: LetterPrinter, vault: Vault, plan: str | None) -> Letters:
    from distributor.bootstrap import channels
    from distributor.workflows.letters import Letters, write_letters

    ready = ledger.ready_passwords("letter", plan)
    if not ready:
        return Letters((), (), ())
    with channels.letter_pool(settings) as pool:
        return write_letters(ready, vault, printer, pool, ledger.now())


def _check_place(output: Path) -> None:
    if is_folder(output):
        raise InvalidInput("this is a folder, not a file", where=str(output), hint=f"name a file in it: --output {output / 'letters.pdf'}")
    if os.path.lexists(output):
        raise InvalidInput("the file exists already", where=str(output), hint="choose another name; letters are never overwritten")


def _write(ledger: Ledger, made: Letters, data: bytes, output: Path) -> None:
    """Steps (1) to (4)."""
    from hashlib import sha256

    from distributor.files import atomic, part
    from distributor.model.channels import LettersFile

    path = output.with_name(f"{PART}{os.urandom(8).hex()}.part")
    file = LettersFile(sha256(data).hexdigest(), str(output), str(path), len(made.letters))
    with _translated(output):
        handed_over = False
        try:
            with part.held_part(path) as writing:
                writing.write(data)
                writing.flush()
                os.fsync(writing.fileno())
                atomic.sync_folder(path.parent)
                ledger.hand_over_letters(made.passwords, file, REASON)
                handed_over = True
                part.publish_new(path, output)
        except BaseException as error:
            handed_over = handed_over or _is_recorded(ledger, file)  # an interrupt may have come between its commit and our knowing of it
            if not handed_over:
                path.unlink(missing_ok=True)
                raise
            raise _unfinished(error, file) from error
    ledger.finish_letters(file, "written")


def _is_recorded(ledger: Ledger, file: LettersFile) -> bool:
    return any(known.sha256 == file.sha256 for known in ledger.unfinished_letters())


def _unfinished(error: BaseException, file: LettersFile) -> Error:
    """The error after the hand-over: the file is the only copy of its passwords."""
    hint = f"the letters are complete in {file.part}; {_AGAIN}"
    if isinstance(error, KeyboardInterrupt):
        return Interrupted("interrupted", hint=hint)
    reason = (error.strerror or "cannot be written").lower() if isinstance(error, OSError) else str(error) or type(error).__name__
    return InvalidInput(reason, where=file.path, hint=hint)


@contextmanager
def _translated(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason, hint = (error.strerror or "cannot be written").lower(), "choose another place; nothing was handed over"
        raise InvalidInput(reason, where=str(output), hint=hint) from None


# --- what earlier commands left ------------------------------------------------------------------------------------


def _finish_earlier(ledger: Ledger, by: str) -> bool:
    """Name the files of interrupted commands; whether letters are lost or elsewhere."""
    unclear = [file for file in ledger.unfinished_letters() if _finish(ledger, file, by)]
    return bool(unclear)


def _finish(ledger: Ledger, file: LettersFile, by: str) -> bool:
    from distributor.files import part

    told = f"{counted(file.letters, 'letter')} of {time(file.at)}" if file.at else counted(file.letters, "letter")
    output, unfinished = Path(file.path), Path(file.part)
    try:
        if part.is_held(unfinished):
            raise RequestDenied("another `distributor password letters` is writing", where=file.path, hint="wait for it to end")
        if _digest(unfinished) == file.sha256:
            if _digest(output) == file.sha256:
                unfinished.unlink()
            else:
                part.publish_new(unfinished, output)
        elif _digest(output) != file.sha256:
            return _missing(ledger, file, by, told)
    except FileExistsError:
        hint = f"move that file away; {told} are complete in {file.part}. Then {_AGAIN}"
        raise InvalidInput("another file has this name", where=file.path, hint=hint) from None
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise InvalidInput(reason, where=error.filename or file.part, hint=f"make it readable and writable, then {_AGAIN}") from None
    ledger.finish_letters(file, "written")
    stdout_line(f"{escape(file.path)}: {told}, whose command was interrupted; print this file too, unless you have done so")
    return False


def _missing(ledger: Ledger, file: LettersFile, by: str, told: str) -> bool:
    if file.by.rpartition("@")[2] != by.rpartition("@")[2]:
        text = f"{told} were written by {file.by} into {file.path}; run this command there to finish it"
        stderr_line(coloured(f"warning: {escape(text)}", YELLOW))
        return True
    people = ledger.letter_recipients(file)
    stderr_line(
        coloured(f"warning: {escape(file.path)}: {told} are handed over, but the file is gone: {escape(', '.join(people))}", YELLOW)
    )
    stderr_line("hint: if it was not printed: distributor resend ADDRESS --reason TEXT, for each")
    ledger.finish_letters(file, "lost")
    return True


def _digest(path: Path) -> str | None:
    """The SHA-256 of a regular file; None where there is none. Raises OSError."""
    from hashlib import file_digest

    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(number, "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def _remove_abandoned(folder: Path) -> None:
    """Remove files that a killed command left before anything was handed over: their passwords are printed again."""
    from distributor.files import part

    try:
        for path in sorted(folder.glob(f"{PART}*.part")):
            if part.is_held(path):
                raise RequestDenied("another `distributor password letters` is writing here", where=str(path), hint="wait for it to end")
            path.unlink(missing_ok=True)
            stderr_line(f"removed {escape(path)}, left by an interrupted command; none of its passwords was handed over")
    except OSError as error:
        raise InvalidInput((error.strerror or "cannot be read").lower(), where=str(folder), hint="check the folder's permissions") from None
