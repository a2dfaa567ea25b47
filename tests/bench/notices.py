"""What it costs to turn a received mail into a notice: bounces of many mail systems, reports of today's, and replies of people."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from distributor.mail.notices import NoticeRules, parse
from distributor.model.notices import Unknown
from tests.bench.ground import line
from tests.needs import require_file

OURS = Path(__file__).parents[1] / "data" / "mail"
ROUNDS = 20
PACKAGE = 12_000  # bytes of base64, as a returned message has them


def run(_: Path) -> None:
    """Measure and print."""
    real = require_file("/usr/lib/python3/dist-packages/flufl/bounce/tests/data")
    reports = [path.read_bytes() for path in sorted((OURS / "reports").glob("*.eml"))]
    returned = next(path.read_bytes() for path in (OURS / "reports").glob("exchange-online-failed.eml"))
    _measure("flufl.bounce's mails", [path.read_bytes() for path in sorted(real.glob("*.txt"))])
    _measure("reports and receipts of today's mail systems", reports)
    _measure("a report that returns the whole message", [returned.replace(b"AAAA\n", (b"A" * 76 + b"\n") * (PACKAGE // 76))])
    _measure("replies of people", [path.read_bytes() for path in sorted(OURS.glob("*.eml"))])


def _measure(what: str, mails: Sequence[bytes]) -> None:
    rules = NoticeRules(frozenset({"certificates@example.org"}), frozenset({"send again"}))
    found = [parse(mail, rules) for mail in mails]  # once before, as a worker has compiled its patterns
    unknown = sum(isinstance(notice, Unknown) for notice in found)
    began = time.process_time()
    for _ in range(ROUNDS):
        for mail in mails:
            parse(mail, rules)
    each = (time.process_time() - began) / ROUNDS / len(mails)
    line(f"{what}: each of {len(mails)}, {unknown} left alone", f"{each * 1e3:.2f} ms CPU", f"{1 / each:.0f}/s a core, wanted: 500")
