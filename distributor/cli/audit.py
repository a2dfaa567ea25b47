"""`distributor audit`: exports the ledger's events, verifies a ledger or an export, and reports."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from distributor.cli import audit_report, checkpoints, forget
from distributor.cli.options import Config, Json, replacing
from distributor.cli.render import counted, escape, print_json, stderr_line, stdout_line
from distributor.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributor.cli.checkpoints import GivenCheckpoints
    from distributor.model.audit_log import ChainObserver, ExportComparison, VerificationReport
    from distributor.model.ports import Ledger

STDOUT = Path("-")
VERIFIER = ".verify.py"  # after the name of an export without its suffix
LARGEST_EXPORT = 2**36  # bytes; an event has less than a thousand and is read one at a time
app = typer.Typer(help="Export, verify and report the audit log.", no_args_is_help=True, epilog="\b\nexample:\n  distributor audit verify")
app.command("checkpoint", epilog=checkpoints.EXAMPLE)(checkpoints.checkpoint)
app.command("key", epilog=checkpoints.KEY_EXAMPLE)(checkpoints.key)

app.command("forget", epilog=forget.EXAMPLE)(forget.forget)


class Format(StrEnum):
    """The file format of an export."""

    JSONL = "jsonl"
    CSV = "csv"


app.command("report", epilog=audit_report.EXAMPLE)(audit_report.report)


@app.command(epilog="\b\nexample:\n  distributor audit export --format csv --output evidence.csv")
def export(
    output: Annotated[Path, typer.Option("--output", metavar="FILE", readable=False, help="Output file; - for stdout.")],
    form: Annotated[Format, typer.Option("--format", help="Both can be verified later; CSV is for spreadsheets.")] = Format.JSONL,
    chosen: Config = None,
) -> None:
    """Export every event, oldest first, with personal data; the export is an event too, the last one in it.

    Beside an export as JSON Lines comes a program that verifies it with nothing but Python.
    """
    from distributor import bootstrap
    from distributor.workflows import audit

    verifier = None
    with bootstrap.open_for_reading(bootstrap.settings(chosen)) as ledger, _whole(output) as write:
        _record(ledger, form)
        number = audit.export_links(ledger.links(), str(form), write)
    if output == STDOUT:
        stderr_line(counted(number, "event"))
        return
    if form is Format.JSONL:
        verifier = output.with_name(f"{output.name.removesuffix('.jsonl')}{VERIFIER}")
        with replacing(verifier, 0o600, such_as="evidence.jsonl") as file:
            file.write(Path(__file__).with_name("verify_export.py").read_bytes())
    stderr_line(f"{counted(number, 'event')} in {escape(output)}; next: distributor audit verify {escape(output)}")
    if verifier is not None:
        stderr_line(f"without distributor: python3 {escape(verifier)} {escape(output)}")


def _record(ledger: Ledger, form: Format) -> None:
    """Record the export before anything is written; a copy that cannot be written to can be exported all the same."""
    try:
        ledger.note_export(str(form))
    except InvalidInput as error:
        stderr_line(f"warning: this export is not recorded in the ledger: {escape(error.message)}")


@contextmanager
def _whole(path: Path) -> Iterator[Callable[[str], object]]:
    """Write to a file with mode 0600 that replaces an old one when it is complete; `-` is standard output."""
    if path == STDOUT:
        yield sys.stdout.write
        return
    with replacing(path, 0o600, such_as="evidence.jsonl") as file:
        yield lambda text: file.write(text.encode())


@app.command(epilog="\b\nexample:\n  distributor audit verify --against evidence.jsonl")
def verify(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", readable=False, help="An export (JSON Lines or CSV); default: the ledger.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="EXPORT", readable=False, help="An earlier export, whose events must all still be there."),
    ] = None,
    checkpoint: Annotated[
        list[Path] | None,
        typer.Option("--checkpoint", metavar="FILE", readable=False, help="A signed checkpoint, or a log with several; may be repeated."),
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="KEY", help="Public key that checkpoints are signed with; default: that of this workspace."),
    ] = None,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Verify the audit chain, and every delivery, person, password, message and checkpoint in the ledger against it.

    Somebody who can write to the ledger could recompute the whole chain: only `--against`, with an export kept elsewhere, or
    `--checkpoint`, with a checkpoint kept elsewhere, finds that.
    """
    found = _in_ledger(chosen, against, checkpoint or (), key or ()) if file is None else _in_file(file, chosen, against, checkpoint, key)
    report, findings = found.report, found.report.findings
    what = "ledger" if file is None else str(file)
    if as_json:
        _answer("the ledger" if file is None else what, found)
        return 1 if findings else 0
    for finding in findings:
        stdout_line(escape(finding))
    if findings:
        _tell_notes(report)
        stderr_line(f"{what}: {counted(len(findings), 'finding')}; do not change it, and compare it with a backup")
        if found.hint:
            stderr_line(f"hint: {found.hint}")
        return 1
    _tell_whole(what, found, of_ledger=file is None)
    return 0


class _Verified(NamedTuple):
    report: VerificationReport
    beside: ExportComparison | None
    given: GivenCheckpoints
    hint: str = ""


def _answer(what: str, found: _Verified) -> None:
    report, beside, given, _ = found
    last = {"seq": report.events, "at": report.at, "hash": report.hash} if report.events else None
    verified = {"verified": what, "ok": not report.findings, "findings": report.findings, "last": last}
    counts = {"erased": report.erased, "set_back": report.back}
    compared = None if beside is None else {"export": beside.name, "unchanged": beside.events}
    kept = {"kept": report.checkpoints, "given": [{"file": one.name, "events": one.size} for one in given.comparison.matching]}
    print_json("audit", {**verified, **counts, "against": compared, "checkpoints": kept, "notes": report.notes})


def _tell_whole(what: str, found: _Verified, *, of_ledger: bool) -> None:
    """Say what was proved. Whether an exported file has the ledger's last event cannot be seen from the file."""
    report, beside, given, _ = found
    if not report.events:
        stdout_line(f"{what}: audit chain intact, no events yet")
        _tell_notes(report)
        return
    stdout_line(escape(f"{what}: audit chain intact: {counted(report.events, 'event')}, the last at {report.at[:40]}, hash {report.hash}"))
    if beside is not None:
        stdout_line(escape(f"{counted(beside.events, 'event')} of {beside.name}: none changed, none missing"))
    for line in given.lines():
        stdout_line(escape(line))
    if of_ledger:
        what = "the delivery matches" if report.deliveries == 1 else f"all {report.deliveries} deliveries match"
        stdout_line(f"{what} the audit log")
        if report.checkpoints:
            kept = (
                "the checkpoint in the ledger matches"
                if report.checkpoints == 1
                else f"all {report.checkpoints} checkpoints in the ledger match"
            )
            stdout_line(f"{kept} the audit log")
    if report.back:
        stdout_line(
            f"{counted(report.back, 'event')} dated earlier than the event before: a clock was set back; the numbers give the order"
        )
    if report.erased:
        stdout_line(f"{counted(report.erased, 'event')} with personal data erased, which cannot be compared")
    _tell_notes(report)
    if not of_ledger:
        stderr_line("the ledger may have newer events: compare number and hash with `distributor audit verify`")


def _tell_notes(report: VerificationReport) -> None:
    for note in report.notes:
        stderr_line(escape(note))


_FOUND = frozenset({"older", "forked"})  # kinds of RestoredLedger: this machine remembers events that are not in it


def _in_ledger(chosen: Path | None, against: Path | None, files: Sequence[Path], keys: Sequence[str]) -> _Verified:
    from distributor import bootstrap
    from distributor.bootstrap.metrics import remember_verification
    from distributor.cli.ledger import warn_clock_ahead, warn_restored

    beside, settings = None if against is None else _beside(against), bootstrap.settings(chosen)
    with bootstrap.open_for_reading(settings) as ledger:
        warn_clock_ahead(ledger)
        seen = ledger.restored()
        if seen is None or seen.kind not in _FOUND:
            warn_restored(ledger)
        known = checkpoints.parse_keys(keys) or checkpoints.keys_of(settings, ledger)
        if known is None:
            for file in files:
                stderr_line(f"warning: {escape(file)}: not compared, since the ledger's name cannot be read; add --key KEY")
            files, known = (), []
        given = checkpoints.read(files, known)
        report = ledger.prove(_observers(beside, given), known)
        remember_verification(ledger, report.events, intact=not report.findings)
        if seen is None or seen.kind not in _FOUND:
            return _Verified(report, beside, given)
        return _Verified(replace(report, findings=(*report.findings, f"ledger: {seen.message}")), beside, given, seen.hint)


def _in_file(file: Path, chosen: Path | None, against: Path | None, files: Sequence[Path] | None, keys: Sequence[str] | None) -> _Verified:
    from distributor.workflows import audit

    beside = None if against is None else _beside(against)
    known = checkpoints.parse_keys(keys or ())
    if files and not known:
        known = checkpoints.own_keys(chosen)
    given = checkpoints.read(files or (), known)
    return _Verified(audit.prove_export(_lines(file), _observers(beside, given)), beside, given)


def _observers(beside: ExportComparison | None, given: GivenCheckpoints) -> list[ChainObserver]:
    return [*([beside] if beside is not None else []), given.comparison]


def _beside(export: Path) -> ExportComparison:
    from distributor.model.audit_log import ExportComparison
    from distributor.workflows import audit

    return ExportComparison(str(export), audit.earlier(_lines(export)))


def _lines(file: Path) -> Iterator[str]:
    from distributor.files.reader import FileRefused, bounded_lines, open_file
    from distributor.workflows import audit

    try:
        with open_file(file, LARGEST_EXPORT, follow=True) as opened, io.TextIOWrapper(opened, "utf-8", newline="") as text:
            yield from bounded_lines(text, longest=audit.LONGEST_LINE)
    except FileRefused as refused:
        raise InvalidInput(refused.message, where=str(file), hint="use a file from `distributor audit export`") from None
    except UnicodeDecodeError:
        raise InvalidInput("not an export: not UTF-8", where=str(file), hint="use a file from `distributor audit export`") from None
    except OSError as error:
        raise InvalidInput((error.strerror or "cannot be read").lower(), where=str(file), hint="check its permissions") from None
