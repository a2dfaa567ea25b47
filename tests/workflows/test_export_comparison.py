"""A chain beside an earlier export: what was rewritten, removed or cut off is told, though every hash fits; what was added is not."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest

from distributor.files.reader import bounded_lines
from distributor.model.audit_log import ORIGIN, AuditRecord, ExportComparison, Link, canonical, digest, format_timestamp
from distributor.workflows import audit
from distributor.workflows.audit import LONGEST_LINE, earlier, export, prove_export
from tests.workflows.test_audit import Chain


def written(records: list[AuditRecord], form: str = "jsonl") -> list[str]:
    lines: list[str] = []
    export(records, form, lines.append)
    return lines


def compared(now: list[AuditRecord], before: list[str]) -> list[str]:
    """What is wrong with a chain, all of whose hashes were computed anew, beside an export."""
    beside = ExportComparison("earlier.jsonl", earlier(before))
    findings = list(prove_export(written(rehashed(now)), [beside]).findings)
    return findings or [f"{beside.events} unchanged"]


def rehashed(records: list[AuditRecord]) -> list[AuditRecord]:
    """The same events as whoever forges them writes them: numbered through, every hash fitting the one before it."""
    prev, forged = ORIGIN, []
    for seq, record in enumerate(records, 1):
        event = record.event
        public = {name: value for name, value in event.evidence.items() if name not in (record.personal or ())}
        columns = (event.delivery, event.event, event.before, event.after, event.by, canonical(public))
        hash_ = digest(Link(seq, format_timestamp(event.at), *columns, None, None, record.commitment, ""), prev)
        forged.append(AuditRecord(replace(event, seq=seq), record.personal, record.salt, record.commitment, prev, hash_))
        prev = hash_
    return forged


@pytest.fixture(params=["jsonl", "csv"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def longer() -> list[AuditRecord]:
    chain = Chain()
    chain.sent_message()
    chain.add("noted", (None, None), {"more": 1}, {}, "root@host")
    return chain.records


def test_a_chain_that_went_on_begins_with_what_was_exported(form: str) -> None:
    assert compared(longer(), written(Chain().sent_message(), form)) == ["6 unchanged"]


def test_a_chain_that_was_written_anew_is_whole_and_found_at_its_first_other_event(form: str) -> None:
    forged = Chain().sent_message(by="eve@host")
    assert prove_export(written(forged)).findings == ()
    (columns,) = compared(forged, written(Chain().sent_message(), form))
    assert columns.startswith('event 1: is "planned" of 2026-11-24T09:00:01')
    assert "but earlier.jsonl has " in columns


def test_an_event_rewritten_in_the_middle_is_where_the_chains_part() -> None:
    forged = longer()
    forged[3] = AuditRecord(Chain().sent_message(by="eve")[3].event, (), None, "", "", "")
    (columns,) = compared(forged, written(longer()))
    assert columns.startswith("event 4: ")


def test_events_cut_off_at_the_end_are_told() -> None:
    assert compared(longer()[:4], written(longer())) == [
        "event 4: is the last one, but earlier.jsonl continues with events 5 to 7: the end was removed"
    ]


def test_events_removed_in_between_without_new_hashes_are_told() -> None:
    lines = written(longer())
    beside = ExportComparison("earlier.jsonl", earlier(lines))
    found = prove_export([*lines[:2], *lines[4:]], [beside]).findings
    assert "event 5: events 3 to 4 of earlier.jsonl should come before it and were removed" in found


def test_an_export_that_was_edited_itself_proves_nothing() -> None:
    before = written(Chain().sent_message())
    before[2] = before[2].replace("root@host", "eve@host")
    assert compared(longer(), before) == ["earlier.jsonl: event 3: its hash does not match its content and the previous event"]


@pytest.mark.parametrize("text", ["", "nonsense\n", "\0", "[1]\n" * 3])
def test_what_is_no_export_is_told_and_proves_nothing(text: str) -> None:
    found = compared(longer(), text.splitlines(keepends=True))
    assert found
    assert all(line.startswith("earlier.jsonl: ") for line in found)


class Endless(io.StringIO):
    """A file whose lines have no end, or that has no end of lines."""

    def __init__(self, first: str, unit: str) -> None:
        super().__init__()
        self.first, self.unit, self.given = first, unit, 0

    def readline(self, size: int | None = -1, /) -> str:
        assert size is not None
        assert size > 0
        line, self.first = self.first, ""
        if not line:
            line = self.unit if self.unit.endswith("\n") else (self.unit * (size // len(self.unit) + 1))[:size]
        self.given += len(line)
        assert self.given < 5 * LONGEST_LINE
        return line


@pytest.mark.parametrize(
    ("header", "unit"), [(False, '{"a":'), (False, "xxxx"), (True, "a,,,"), (True, '",\n"')], ids=["json", "text", "a row", "quoted cells"]
)
def test_a_line_or_row_without_end_is_not_read_to_its_end(unit: str, *, header: bool) -> None:
    first = ",".join(audit.FIELDS) + "\r\n" if header else ""
    file = Endless(first, f'"{unit}' if unit[0] == '"' else unit)
    assert prove_export(bounded_lines(file, longest=LONGEST_LINE)).findings
