"""Writes the audit report: rows are rendered into a temporary file while everything else is added up, and copied behind it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO, NamedTuple

from distributor.mail.report_template import ReportTemplate
from distributor.model.audit_log import VerificationReport
from distributor.model.ports import Ledger
from distributor.model.states import PasswordState, State
from distributor.workflows.audit_report import PASSWORDS, Group, Period, Proof, Row, Summary, requests_in
from distributor.workflows.rollout_chart import chart

ONE_TABLE = 5000  # rows; a browser lays out and prints so many at once without delay
PART = 1000  # rows that open together in a longer report


class About(NamedTuple):
    """What the report says about itself."""

    period: Period
    verified: VerificationReport
    organisation: str
    made_by: str
    made_at: datetime
    version: str


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of the report that open together."""

    title: str
    rows: Iterator[str]


class _Stretch(NamedTuple):
    """A stretch of the temporary file: where it begins and ends, its rows, and the first and last address."""

    begin: int
    end: int
    rows: int
    first: str
    last: str


def write_report(ledger: Ledger, about: About, spool: IO[bytes], write: Callable[[str], object]) -> tuple[Summary, list[Group]]:
    """Write the report about events up to the last one that was verified. `spool` is an empty temporary file."""
    period = about.period
    template = ReportTemplate()
    end = about.made_at if period.until is None else min(period.until, about.made_at)
    summary = Summary(period, end)
    stretches = list(_render_rows(ledger, about.verified.events, summary, template.row, spool))
    first = None if period.since is None else period.since.date()
    pieces = template.pieces(
        **about._asdict(),
        now=about.made_at,
        last_day=end - timedelta(microseconds=1),
        ledger_name=ledger.ledger_name(),
        summary=summary,
        groups=summary.groups,
        chart=chart(summary.days, first, (end - timedelta(microseconds=1)).date()),
        tables=_tables(summary),
        parts=_parts(stretches, spool),
        requests=requests_in(period, ledger.requests()),
    )
    for piece in pieces:
        write(piece)
    return summary, summary.groups


def _render_rows(ledger: Ledger, last: int, summary: Summary, render: Callable[[Row], str], spool: IO[bytes]) -> Iterator[_Stretch]:
    begin = end = number = 0
    first = latest = ""
    for person in ledger.reported_people(last):
        for row in summary.rows(person):
            if not number:
                first = row.address or "erased"
            latest = row.address or "erased"
            end += spool.write(str(render(row)).encode())
            number += 1
        if number >= PART:
            yield _Stretch(begin, end, number, first, latest)
            begin, number = end, 0
    if number:
        yield _Stretch(begin, end, number, first, latest)


def _parts(stretches: list[_Stretch], spool: IO[bytes]) -> list[Part]:
    if sum(stretch.rows for stretch in stretches) <= ONE_TABLE:
        return [Part("", _read(spool, stretches))] if stretches else []
    return [Part(f"{each.first} to {each.last} ({each.rows} deliveries)", _read(spool, [each])) for each in stretches]


def _read(spool: IO[bytes], stretches: list[_Stretch]) -> Iterator[str]:
    for stretch in stretches:
        spool.seek(stretch.begin)
        yield spool.read(stretch.end - stretch.begin).decode()


def _tables(summary: Summary) -> list[tuple[str, list[tuple[str, int]]]]:
    return [
        ("State", _ordered(summary.states, {state: state.value for state in State})),
        ("Password", _ordered(summary.passwords, PASSWORDS)),
        ("Proof of installation", _ordered(summary.proofs, {proof: proof.value for proof in Proof})),
    ]


def _ordered(counts: Counter[str], names: dict[State, str] | dict[PasswordState, str] | dict[Proof, str]) -> list[tuple[str, int]]:
    return [(words, counts[name]) for name, words in names.items() if counts[name]]
