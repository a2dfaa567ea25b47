"""`distributor audit report`: who received what, as one HTML file for an auditor."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, replacing
from distributor.cli.render import counted, escape, stderr_line, stdout_line
from distributor.errors import UsageError

if TYPE_CHECKING:
    from distributor.model.audit_log import VerificationReport
    from distributor.workflows.audit_report import Group, Summary

EXAMPLE = "\b\nexample:\n  distributor audit report --output report.html --since 2026-01-01 --until 2026-03-31"
IN_MEMORY = 4 * 2**20  # bytes of rows before they are kept in a temporary file, which has no name


def report(
    output: Annotated[Path, typer.Option("--output", metavar="FILE.html", readable=False, help="Output file.")],
    since: Annotated[str | None, typer.Option("--since", metavar="DATE", help="First day, such as 2026-01-31 (UTC).")] = None,
    until: Annotated[str | None, typer.Option("--until", metavar="DATE", help="Last day.")] = None,
    chosen: Config = None,
) -> int:
    """Verify the ledger, and write a report for an auditor: one HTML file that loads nothing, to read, print or save as PDF.

    It has every delivery with an event in the period, exceptions first, and personal data: keep it as you would keep the ledger.
    """
    import tempfile

    from distributor import __version__, bootstrap
    from distributor.cli.ledger import warn_clock_ahead, warn_restored
    from distributor.workflows.audit_report import Period
    from distributor.workflows.report_file import About, write_report

    first, last = _day("--since", since), _day("--until", until)
    if first and last and last < first:
        raise UsageError("--until is before --since", hint="exchange the two dates")
    period = Period(first, None if last is None else last + timedelta(days=1))
    settings = bootstrap.settings(chosen)
    with bootstrap.open_for_writing(settings) as ledger:
        warn_clock_ahead(ledger)
        warn_restored(ledger)
        if ledger.restored() is None:  # else nothing may be written before it is adopted
            ledger.note_export("html")
        verified = ledger.prove()
        about = About(period, verified, settings.organisation.name, bootstrap.who(), ledger.now(), __version__)
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as rows, replacing(output, 0o600, such_as="report.html") as file:
            summary, groups = write_report(ledger, about, rows, lambda text: file.write(text.encode()))
    return _tell(output, verified, summary, groups)


def _day(option: str, text: str | None) -> datetime | None:
    """Midnight UTC of a day. Raises UsageError."""
    if text is None:
        return None
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise UsageError(f'{option}: "{escape(text)}" is not a date', hint="write it as 2026-01-31") from None


def _tell(output: Path, verified: VerificationReport, summary: Summary, groups: list[Group]) -> int:
    stdout_line(f"{counted(summary.deliveries, 'delivery', 'deliveries')} of {counted(summary.people, 'person', 'people')} in {output}")
    for group in groups:
        if group.open:
            stdout_line(f"{group.open}  {group.kind.lower()}")
    if verified.findings:
        for finding in verified.findings[:10]:
            stdout_line(escape(finding))
        stderr_line(f"ledger: {counted(len(verified.findings), 'finding')}; do not change it, and compare it with a backup")
        return 1
    stderr_line(f"audit log intact: {counted(verified.events, 'event')}, hash {verified.hash}")
    return 0
