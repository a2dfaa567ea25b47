"""Real bounces that flufl.bounce is tested with (Debian: python3-flufl.bounce): failures are found, and nothing else is called one."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from distributor.mail.notices import NoticeRules, parse
from distributor.model.notices import Action, DeliveryReport
from tests.needs import require_file

RULES = NoticeRules(frozenset(), frozenset())
WANTED = 0.97  # of the recipients' failures
MISSED = {  # mails that are read as something else, each for a reason
    "dsn_15.txt": "a report that is attached to a mailing list's notice: what is forwarded is no report",
    "simple_20.txt": "a gateway's answer to a message, from an address and with a subject like a person's",
}
NAMES_NOBODY = frozenset({"simple_42.txt", "simple_43.txt", "bounce_01.txt", "dumbass_01.txt"})  # failures without a whole address in them

Outcome = tuple[frozenset[str], frozenset[str]]  # addresses that failed, and addresses that are delayed


@pytest.fixture(scope="module")
def mails() -> dict[str, bytes]:
    folder = require_file("/usr/lib/python3/dist-packages/flufl/bounce/tests/data")
    return {path.name: path.read_bytes() for path in folder.glob("*.txt")}


@pytest.fixture(scope="module")
def expected(mails: dict[str, bytes]) -> dict[str, Outcome]:
    """What the package's own tests expect of each mail: (detector, file, addresses, and whether they are only delayed)."""
    source = require_file("/usr/lib/python3/dist-packages/flufl/bounce/testing/helpers.py")
    found: dict[str, Outcome] = dict.fromkeys(mails, (frozenset(), frozenset()))
    for _, name, addresses, *delayed in _table(source):
        keys = frozenset(address.decode().lower() for address in addresses)
        failed, late = found[name]
        found[name] = (failed, late | keys) if any(delayed) else (failed | keys, late)
    return found


def _table(source: Path) -> Iterator[tuple[str, str, list[bytes], bool]]:
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "DATA":
            yield from ast.literal_eval(node.value)


def outcome(raw: bytes) -> Outcome:
    found = parse(raw, RULES)
    recipients = found.recipients if isinstance(found, DeliveryReport) else ()
    failed, delayed = (
        frozenset(each.address for each in recipients if each.action is action) for action in (Action.FAILED, Action.DELAYED)
    )
    return failed, delayed


def test_nearly_all_failures_are_found_with_every_recipient(mails: dict[str, bytes], expected: dict[str, Outcome]) -> None:
    failures = {name for name, (failed, _) in expected.items() if failed}
    missed = {name for name in failures if outcome(mails[name])[0] != expected[name][0]}
    assert len(failures) > 90
    assert missed == MISSED.keys()
    assert 1 - len(missed) / len(failures) >= WANTED


def test_nothing_else_is_called_a_failure(mails: dict[str, bytes], expected: dict[str, Outcome]) -> None:
    """Delays, an absence note, an order with a Word file."""
    others = {name for name, (failed, _) in expected.items() if not failed} - NAMES_NOBODY
    assert len(others) > 10
    assert {name: outcome(mails[name])[0] for name in others} == dict.fromkeys(others, frozenset())


def test_every_delay_is_found(mails: dict[str, bytes], expected: dict[str, Outcome]) -> None:
    delays = {name: delayed for name, (_, delayed) in expected.items() if delayed}
    assert {name: outcome(mails[name])[1] for name in delays} == delays


def test_a_failure_without_an_address_names_nobody(mails: dict[str, bytes]) -> None:
    assert {address for name in NAMES_NOBODY for part in outcome(mails[name]) for address in part} <= {""}
