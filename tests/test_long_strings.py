"""A long row of one character, or of what looks like the beginning of something: whatever reads text from outside takes linear time."""

from __future__ import annotations

import io
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from distributor.adapters.rosters import csv
from distributor.adapters.transports.smtp.replies import retry_after
from distributor.clients import aadsts, ldap_connection
from distributor.config import converter
from distributor.config.provenance import lines_of
from distributor.mail.templates import TimeLimitExceeded, cpu_limit
from distributor.microsoft import outlook, tenant
from distributor.model.compact import PackedPeople
from distributor.model.csv_table import Rows, header
from distributor.model.issues import CheckId, Issue, Severity
from distributor.model.people import bounded, escape_unsafe, has_unsafe_chars, parse_address
from distributor.model.text_encoding import decode, guess
from distributor.pki import pem
from distributor.workflows.audit import prove_export
from distributor.workflows.roster import RosterRows as PeoplesRows

SIZE = 2**18  # what takes a microsecond a character takes a quarter of a second, what looks at each pair of them some hours
MOST = 5.0  # CPU seconds
SEEDS = [
    "a",
    "a@",
    "@",
    "a.",
    "é",
    "e\u0301",
    "\u0315\u0300",
    " ",
    "\t",
    "\n ",
    '"',
    '"a',
    ",",
    ";",
    "=",
    "-",
    "(",
    "0",
    "1,",
    "[[a",
    "\u202e",
]
SEEDS += ["after 1 ", "-----BEGIN A-----\n", "Trace ID:", "SMIMECertificateIssuingCA :\n", "\\", "://", "{", '{"a":', "xn--a", "\ud800"]


def _judged(text: str) -> object:
    words = aadsts.ErrorContext("transport", "t", "c", "r")
    return aadsts.explain({"error": text, "error_description": text}, 400, words)


def _refused(text: str) -> object:
    return PeoplesRows(PackedPeople()).refuse(Issue(Severity.ERROR, CheckId.BAD_ADDRESS, "", None, "people.csv", 2, text))


def _rows(text: str) -> list[object]:
    rows = Rows(io.StringIO("email,name\n" + text, newline=""))
    rows.columns()
    return list(rows)


def _octets(call: Callable[[bytes], object]) -> Callable[[str], object]:
    return lambda text: call(text.encode(errors="surrogatepass"))


READERS: dict[str, Callable[[str], object]] = {
    "an address": parse_address,
    "a header": header,
    "rows": _rows,
    "a refused row": _refused,
    "printable": escape_unsafe,
    "hides": has_unsafe_chars,
    "a foreign text": bounded,
    "a list's bytes": _octets(decode),
    "an encoding": _octets(lambda data: guess([data])),
    "PEM": _octets(lambda data: list(pem.blocks(data))),
    "a bundle": _octets(pem.read),
    "a tenant's answer": _octets(tenant.parse_smime_config),
    "a refused sign-in": _judged,
    "a server's retry_after": retry_after,
    "an LDAP URL": ldap_connection.parse_url,
    "an LDAP host": outlook.host,
    "a rate": converter.rate,
    "a duration": converter.duration,
    "a size": converter.size,
    "a configuration's lines": lines_of,
    "an export": lambda text: prove_export(io.StringIO(text, newline="")),
}


@pytest.mark.parametrize("name", READERS)
def test_a_long_text_takes_linear_time(name: str) -> None:
    for seed in SEEDS:
        text = (seed * SIZE)[:SIZE] + "!"
        try:
            with cpu_limit(MOST):
                READERS[name](text)
        except TimeLimitExceeded:
            pytest.fail(f"{name}: {seed!r}")
        except Exception:  # noqa: BLE001, S110  whatever is wrong with such a text may be said
            pass


def test_one_cell_of_a_roster_does_not_hold_up_the_plan(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text(f"email,name\n{'x' * 130_000},X\n{'x@' * 16_000},Y\nbob@example.org,Bob\n", encoding="utf-8")
    with cpu_limit(MOST):
        found = list(csv.open(csv.Settings(path)).people())
    assert [one.check.value for one in found if isinstance(one, Issue)] == ["bad-row", "bad-address"]
    assert len(found) == 3


def test_a_wish_is_still_read() -> None:
    assert retry_after("450 try again in 300 seconds") == timedelta(seconds=300)
