"""The audit report: what a person, a printer and a spreadsheet get of a ledger."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from io import BytesIO
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from distributor.ledger import open_ledger
from distributor.model.attempts import TrackingEvent
from distributor.model.requests import RequestLimits
from distributor.model.states import State
from distributor.workflows.audit_report import Group, Kind, Period, Summary
from distributor.workflows.report_file import About, write_report
from distributor.workflows.rollout_chart import LABEL, chart
from tests.ledger.world import Clock, World, draft

EVER = Period(None, None)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    url = f"sqlite:///{tmp_path / 'ledger.db'}"
    open_ledger(url, by="nobody", now=Clock(), create=True).close()
    world = World(url)
    yield world
    world.close()


def report(world: World, period: Period = EVER) -> tuple[str, Summary, dict[Kind, Group]]:
    verified = world.ledger.prove()
    written: list[str] = []
    about = About(period, verified, "Söhne & Co <AG>", "root@host", world.clock.now, "1.0")
    summary, groups = write_report(world.ledger, about, BytesIO(), written.append)
    return "".join(written), summary, {group.kind: group for group in groups}


def cells(html: str, address: str) -> list[str]:
    """The cells of the row about an address in the table of deliveries."""
    table = html.partition('<table class="deliveries">')[2].partition("</table>")[0]
    (row,) = (row for row in re.findall(r"<tr.*?</tr>", table, re.DOTALL) if address in row)
    return re.findall(r"<td>(.*?)</td>", row, re.DOTALL)


def test_it_is_one_file_without_scripts_or_anything_to_load(world: World) -> None:
    world.accepted()
    html, _, _ = report(world)
    assert "default-src &#39;none&#39;" in html
    assert not re.search(r"<(script|link|img|iframe|object|form)|\b(src|style|on\w+)=|url\(|@import|http-equiv=.refresh", html)
    assert "Söhne &amp; Co &lt;AG&gt;" in html
    (svg,) = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    assert ET.fromstring(svg).attrib["role"] == "img"  # noqa: S314  it is ours


def test_the_verdict_is_at_the_top_with_the_hash_of_the_last_event(world: World) -> None:
    world.accepted()
    html, _, _ = report(world)
    assert html.index("Verified: the audit log is intact") < html.index("What needs attention") < html.index("Who received what")
    assert world.ledger.prove().hash in html
    world.sql("UPDATE person SET name = 'somebody else'")
    world.spoiled = True
    html, _, _ = report(world)
    assert "The ledger does not match its audit log: 1 finding<" in html


def test_a_row_tells_the_way_of_message_password_and_proof(world: World) -> None:
    id_ = world.accepted()
    world.clock.forward(hours=1)
    world.another("helpdesk@vm").hand_over(id_, "she called", "reveal")
    html, _, _ = report(world)
    person, certificate, message, password, installed = cells(html, "anna@example.org")
    assert person.splitlines()[:2] == ["<b>anna Example</b>", "anna@example.org"]
    assert draft("anna").facts.sha256 in certificate.replace("\n", "")
    assert "sent 2026-11-24 09:00 by root@host" in message
    assert "250 ok" in message
    assert password.splitlines() == ["handed over", "channel: helpdesk or portal", "2026-11-24 10:00 by helpdesk@vm", "she called"]
    assert installed == "no proof"


@pytest.mark.parametrize(
    ("kind", "words"), [("portal", "said in the portal"), ("signed-answer", "signed answer"), ("person", "said in the portal")]
)
def test_only_a_signed_answer_is_a_proof(world: World, kind: str, words: str) -> None:
    world.ledger.observe([TrackingEvent(world.accepted(), State.INSTALLED, "it works", {"kind": kind})])
    assert cells(report(world)[0], "anna@example.org")[4].startswith(words)


def test_exceptions_are_told_in_plain_words_until_a_later_generation_makes_up_for_them(world: World) -> None:
    id_ = world.accepted()
    world.ledger.observe([TrackingEvent(id_, State.BOUNCED, "the mailbox is full", {"kind": "report"})])
    html, _, groups = report(world)
    assert (groups[Kind.BOUNCED].total, groups[Kind.BOUNCED].open) == (1, 1)
    assert "The message came back: the mailbox is full" in html
    new = world.ledger.regenerate(id_, "bounced")
    assert new.generation == 2
    html, _, groups = report(world)
    assert (groups[Kind.BOUNCED].total, groups[Kind.BOUNCED].open) == (1, 0)
    assert f"Replaced since: generation {new.generation} is planned." in html


def test_passwords_and_confirmations_that_nobody_gave_are_exceptions_after_some_days(world: World) -> None:
    collected, _ = world.accepted("anna"), world.accepted("bert")
    world.ledger.hand_over(collected, "called", "reveal")
    assert report(world)[2] == {}
    world.clock.forward(days=4)
    assert {kind: group.total for kind, group in report(world)[2].items()} == {Kind.UNCOLLECTED: 1}
    world.clock.forward(days=11)
    world.ledger.expire()
    assert {kind: group.total for kind, group in report(world)[2].items()} == {Kind.EXPIRED: 1, Kind.UNINSTALLED: 1}


def test_incidents_and_certificates_that_must_not_be_used_are_exceptions(world: World) -> None:
    world.accepted("anna")
    world.accepted("bert")
    world.ledger.incident("anna@example.org", "phone stolen")
    world.ledger.revoke(draft("bert").facts.sha256, "revoked on 2026-11-24 (keyCompromise)")
    html, _, groups = report(world)
    assert {kind: group.total for kind, group in groups.items()} == {Kind.INCIDENT: 1, Kind.UNUSABLE: 1}
    assert "recorded by root@host: phone stolen" in html


def test_foreign_text_is_neither_markup_nor_direction_nor_formula(world: World) -> None:
    world.ledger.plan("plan-1", [draft("anna", title="<script>x</script>\u202e"), draft("bert", title="=1+1"), draft("cleo", title="דוד")])
    html, _, _ = report(world)
    assert "<script" not in html
    assert "\u202e" not in html
    assert cells(html, "anna@")[0].startswith("<b>&lt;script&gt;x&lt;/script&gt;\\u202e</b>")
    assert cells(html, "bert@")[0].startswith("<b>&#39;=1+1</b>")
    assert cells(html, "cleo@")[0].startswith("<b>דוד</b>")


def test_a_person_who_was_erased_has_no_name_in_it(world: World) -> None:
    world.accepted()
    world.sql("UPDATE event SET personal = NULL, salt = NULL WHERE commitment <> ''")
    world.spoiled = True
    html, summary, _ = report(world)
    assert summary.erased == 1
    assert "anna@example.org" not in html.partition("What needs attention")[2]
    assert "<td>erased\ngeneration 1" in html


def test_a_period_shows_what_happened_in_it_as_it_was_at_its_end(world: World) -> None:
    id_ = world.accepted("anna")
    world.clock.forward(days=2)
    world.ledger.observe([TrackingEvent(id_, State.BOUNCED, "gone", {"kind": "report"})])
    world.accepted("bert")
    first = datetime(2026, 11, 24, tzinfo=UTC)
    html, summary, groups = report(world, Period(None, first + timedelta(days=1)))
    assert (summary.deliveries, summary.states, groups) == (1, Counter({State.ACCEPTED: 1}), {})
    html, summary, _ = report(world, Period(first + timedelta(days=1), None))
    assert (summary.deliveries, summary.states[State.BOUNCED]) == (2, 1)
    assert report(world, Period(first + timedelta(days=90), None))[1].deliveries == 0
    assert "2026-11-24 to" not in html


def test_requests_are_in_it_with_who_decided(world: World) -> None:
    request = world.ledger.ask(world.accepted(), "new phone", limits=RequestLimits())
    world.another("admin@vm").decide(request.id, "not needed", approve=False)
    html = report(world)[0].partition("Requests for another copy")[2]
    assert re.search(r"new phone</td><td>denied.*by admin@vm.*not needed", html, re.DOTALL)


def test_an_empty_ledger_has_a_report_too(world: World) -> None:
    html, summary, groups = report(world)
    assert (summary.deliveries, groups) == (0, {})
    assert "Nothing was planned or sent in this period." in html


def test_many_rows_come_in_parts_and_none_is_lost(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distributor.workflows.report_file.ONE_TABLE", 4)
    monkeypatch.setattr("distributor.workflows.report_file.PART", 2)
    names = [f"person{n}" for n in range(5)]
    world.plan(*names)
    html, _, _ = report(world)
    assert html.count('<details class="part">') == 3
    assert "person0@example.org to person1@example.org (2 deliveries)" in html
    assert all(cells_of.count(f"{name}@example.org\ngeneration 1") == 1 for name in names for cells_of in (html,))


def test_the_lines_of_the_chart_add_up_and_their_labels_do_not_overlap() -> None:
    day = date(2026, 11, 24)
    counts = {"planned": Counter({day: 3, day + timedelta(days=2): 1}), "accepted": Counter({day: 3}), "installed": Counter[date]()}
    found = chart(counts, None, day + timedelta(days=3))
    assert found is not None
    assert [line.total for line in found.lines] == [4, 3, 0]
    assert found.days == tuple((day + timedelta(days=n), totals) for n, totals in enumerate([(3, 3, 0), (3, 3, 0), (4, 3, 0), (4, 3, 0)]))
    same = chart({name: Counter({day: 8}) for name in "abcd"}, day, day)
    assert same is not None
    labels = [line.label for line in same.lines]
    assert all(later - earlier >= LABEL for earlier, later in itertools.pairwise(labels))
    assert min(labels) >= 0
    assert chart({"planned": Counter()}, None, day) is None
