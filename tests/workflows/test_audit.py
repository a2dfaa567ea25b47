"""An auditor's file checks itself: every edit, removal, insertion and exchange in it is found, in both forms."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.model.audit_log import ORIGIN, AuditRecord, Event, Link, canonical, commit, digest, format_timestamp, parse_timestamp
from distributor.model.states import State
from distributor.workflows.audit import FIELDS, export, prove_export

SALT = "00" * 16
Fields = dict[str, object]
Steps = tuple[State | None, State | None]


def verify_export(lines: Iterable[str]) -> list[str]:
    return list(prove_export(lines).findings)


class Chain:
    """A chain made by hand, as a ledger would."""

    def __init__(self) -> None:
        self.records: list[AuditRecord] = []
        self.at = parse_timestamp("2026-11-24T09:00:00.000000Z")

    def add(self, event: str, steps: Steps, public: Fields, personal: Fields, by: str) -> None:
        before, after = steps
        prev = self.records[-1].hash if self.records else ORIGIN
        opened = canonical(personal) if personal else None
        commitment = commit(SALT, opened) if opened else ""
        seq = len(self.records) + 1
        self.at += timedelta(seconds=1)
        salt = SALT if personal else None
        link = Link(seq, format_timestamp(self.at), "d-1", event, before, after, by, canonical(public), opened, salt, commitment, "")
        recorded = Event(seq, self.at, "d-1", event, before, after, by, {**public, **personal})
        self.records.append(AuditRecord(recorded, tuple(personal), salt, commitment, prev, digest(link, prev)))

    def sent_message(self, response: str = "250 ok", by: str = "root@host") -> list[AuditRecord]:
        self.add("planned", (None, State.PLANNED), {"plan": "p", "generation": 1}, {"address": "anna@example.org", "name": "=cmd()"}, by)
        self.add("queued", (State.PLANNED, State.QUEUED), {"package_sha256": "ab"}, {}, by)
        self.add("claimed", (State.QUEUED, State.CLAIMED), {"attempt": 1}, {}, by)
        self.add("transmitting", (State.CLAIMED, State.TRANSMITTING), {"attempt": 1}, {}, by)
        self.add("accepted", (State.TRANSMITTING, State.ACCEPTED), {"attempt": 1}, {"said": response}, by)
        self.add("revealed", (None, None), {"channel": "reveal"}, {"reason": '+49 phoned, with "quotes",\r\nand lines'}, by)
        return self.records


def exported(records: list[AuditRecord], form: str) -> list[str]:
    written: list[str] = []
    assert export(iter(records), form, written.append) == len(records)
    return "".join(written).splitlines(keepends=True)


@pytest.fixture(params=["jsonl", "csv"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_an_export_that_nobody_touched_is_good(form: str) -> None:
    assert verify_export(exported(Chain().sent_message(), form)) == []


@given(response=st.text(), by=st.text())
def test_any_words_survive_both_forms(response: str, by: str) -> None:
    records = Chain().sent_message(response, by)
    for form in ("jsonl", "csv"):
        written: list[str] = []
        export(records, form, written.append)
        whole = io.StringIO("".join(written).encode(errors="surrogatepass").decode(errors="surrogatepass"), newline="")
        assert verify_export(whole) == []


def test_a_line_of_json_has_the_keys_of_history_and_those_of_the_chain() -> None:
    first = json.loads(exported(Chain().sent_message(), "jsonl")[0])
    assert tuple(first) == FIELDS
    assert (first["from"], first["to"], first["personal"]) == (None, "planned", ["address", "name"])
    assert first["evidence"] == {"plan": "p", "generation": 1, "address": "anna@example.org", "name": "=cmd()"}
    assert first["at"] == "2026-11-24T09:00:01.000000Z"


@pytest.mark.parametrize("by", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "\uff1d1", "'=1", "' =1"])
def test_no_cell_of_a_csv_is_taken_for_a_formula_and_none_is_lost(by: str) -> None:
    written: list[str] = []
    records = Chain().sent_message(by=by)
    export(records, "csv", written.append)
    rows = list(csv.DictReader(io.StringIO("".join(written), newline="")))
    assert rows[0]["by"] == f"'{by}"
    assert not any((cell or "").lstrip().startswith(("=", "+", "-", "@")) for row in rows for cell in row.values())
    assert verify_export(io.StringIO("".join(written), newline="")) == []


Edit = Callable[[list[str]], object]
EDITS: dict[str, Edit] = {
    "an address": lambda lines: lines.__setitem__(-6, lines[-6].replace("anna@", "eve@")),
    "a public field": lambda lines: lines.__setitem__(-5, lines[-5].replace("ab", "cd", 1)),
    "who it was": lambda lines: lines.__setitem__(-4, lines[-4].replace("root@host", "eve@host")),
    "a time": lambda lines: lines.__setitem__(-3, lines[-3].replace("09:00:04", "09:00:05")),
    "a state": lambda lines: lines.__setitem__(-2, lines[-2].replace("accepted", "rejected")),
    "a removal": lambda lines: lines.pop(-3),
    "the first removed": lambda lines: lines.pop(-6),
    "a repetition": lambda lines: lines.insert(-2, lines[-3]),
    "an exchange": lambda lines: lines.insert(-4, lines.pop(-3)),
    "the salt": lambda lines: lines.__setitem__(-6, lines[-6].replace(SALT, "11" * 16)),
    "only the salt erased": lambda lines: lines.__setitem__(-6, lines[-6].replace(f'"{SALT}"', "null").replace(f",{SALT},", ",,")),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_every_change_of_a_file_is_found(form: str, edit: Edit) -> None:
    lines = list(_lines(form))
    edit(lines)
    assert verify_export(lines) != []


def _lines(form: str) -> Iterator[str]:
    written: list[str] = []
    export(Chain().sent_message(), form, written.append)
    yield from written


def test_a_chain_that_leaves_the_allowed_way_is_found_though_its_hashes_fit(form: str) -> None:
    chain = Chain()
    chain.add("planned", (None, State.PLANNED), {}, {}, "x")
    chain.add("accepted", (State.PLANNED, State.ACCEPTED), {}, {}, "x")
    written: list[str] = []
    export(chain.records, form, written.append)
    assert verify_export(written) == ['event 2: delivery d-1 cannot change from "planned" to "accepted"']


def test_a_person_who_was_erased_leaves_a_chain_that_still_holds(form: str) -> None:
    chain = Chain()
    records = chain.sent_message()
    event = records[0].event
    public = {name: value for name, value in event.evidence.items() if name not in (records[0].personal or ())}
    bare = Event(event.seq, event.at, event.delivery, event.event, event.before, event.after, event.by, public)
    records[0] = AuditRecord(bare, None, None, records[0].commitment, records[0].prev, records[0].hash)
    written: list[str] = []
    export(records, form, written.append)
    assert "anna@" not in "".join(written)
    assert verify_export(written) == ["event 1: its personal fields are missing, but no event records their erasure"]
    chain.add("erased", (None, None), {"events": [1]}, {}, "root@host")
    written.clear()
    export(records, form, written.append)
    assert verify_export(written) == []


@pytest.mark.parametrize("evidence", [{}, {"events": "1"}, {"events": [2]}, {"events": [[1]]}, {"events": None}], ids=str)
def test_an_erasure_that_lists_something_else_explains_nothing(form: str, evidence: Fields) -> None:
    chain = Chain()
    records = chain.sent_message()
    records[0] = replace(records[0], event=replace(records[0].event, evidence={"plan": "p", "generation": 1}), personal=None, salt=None)
    chain.add("erased", (None, None), evidence, {}, "root@host")
    assert verify_export(exported(records, form)) == ["event 1: its personal fields are missing, but no event records their erasure"]


GOOD = dict.fromkeys(FIELDS) | {
    "seq": 1,
    "at": "",
    "event": "x",
    "by": "",
    "evidence": {},
    "commitment": "",
    "hash": "",
    "personal": [],
}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "nonsense",
        "[]",
        "{}",
        "{",
        '{"seq":',
        '{"seq": 1, "seq": 1}',
        "{" * 100_000,
        '{"a":' * 100_000,
        json.dumps({**GOOD, "extra": 1}),
        json.dumps({**GOOD, "seq": "1"}),
        json.dumps({**GOOD, "seq": True}),
        json.dumps({**GOOD, "seq": 10**400}),
        json.dumps({**GOOD, "delivery": ["d"]}),
        json.dumps({**GOOD, "evidence": []}),
        json.dumps({**GOOD, "personal": ["absent"]}),
        json.dumps({**GOOD, "personal": [["x"]]}),
        json.dumps({**GOOD, "personal": "x"}),
        json.dumps({**GOOD, "evidence": {"a": 1}, "personal": ["a"], "salt": "zz", "commitment": "x"}),
        json.dumps({**GOOD, "evidence": {"a": float("nan")}}),
        json.dumps({**GOOD, "by": "\ud800"}),
        json.dumps({**GOOD, "from": "nowhere", "to": "x", "delivery": "d"}),
        ",".join(FIELDS),
        ",".join(FIELDS) + "\r\n1,2,3",
        ",".join(FIELDS) + "\r\n" + "," * 12,
        ",".join(FIELDS) + '\r\n"' + "x" * 200_000,
        ",".join(FIELDS) + '\r\n"x"y,,,,,,,,,,,,',
        "\0",
        "a,b\r\n",
    ],
)
def test_what_is_no_export_is_refused_in_words_and_never_falls_over(text: str) -> None:
    found = verify_export(text.splitlines(keepends=True))
    assert found
    assert all(isinstance(line, str) and len(line) < 500 for line in found)


def test_a_file_full_of_faults_does_not_fill_the_screen() -> None:
    assert len(verify_export(["{}\n"] * 5000)) == 1000


def test_an_export_with_a_byte_order_mark_is_read(form: str) -> None:
    lines = list(_lines(form))
    assert verify_export(["\ufeff" + lines[0], *lines[1:]]) == []
