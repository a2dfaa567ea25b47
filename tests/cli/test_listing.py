"""A delivery's line of `status --json` is the JSON it says it is, whatever people are called."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from distributor.cli.render import delivery_json

WORDS = st.text(st.characters(exclude_categories=["Cs"]))
MAYBE = st.none() | WORDS


@given(address=WORDS, name=WORDS, said=MAYBE, message_id=MAYBE, plan=WORDS)
def test_any_words_come_out_as_they_went_in(address: str, name: str, said: str | None, message_id: str | None, plan: str) -> None:
    times = ("2026-11-24T10:00:00.000000Z", "2026-11-24T09:00:00.123456Z")
    row = (
        "d-1",
        address,
        name,
        "de",
        2,
        "deferred",
        3,
        message_id,
        None,
        "phone",
        said,
        *times,
        plan,
        "ab",
        "0c",
        name,
        times[0],
        "reveal",
        "held",
        "mail",
        "2/3",
        "cd",
    )
    written = delivery_json(row)
    assert written.isascii()
    assert json.loads(written) == {
        "id": "d-1",
        "address": address,
        "name": name,
        "language": "de",
        "state": "deferred",
        "generation": 2,
        "attempts": 3,
        "message_id": message_id,
        "package_sha256": None,
        "profile": "phone",
        "said": said,
        "not_before": "2026-11-24T10:00:00Z",
        "updated_at": "2026-11-24T09:00:00Z",
        "plan": plan,
        "certificate": {"sha256": "ab", "serial": "0c", "subject": name, "not_after": "2026-11-24T10:00:00Z"},
        "password": {"channel": "reveal", "state": "held"},
        "way": "mail",
        "series": "2/3",
        "predecessor": "cd",
    }


def test_what_is_only_planned_has_neither_times_nor_a_password() -> None:
    nothing = [None] * 4
    row = (
        "d-1",
        "a@b.c",
        "",
        "en",
        1,
        "planned",
        0,
        *nothing,
        None,
        "2026-11-24T09:00:00.000000Z",
        "p",
        "ab",
        "0c",
        "",
        "2028-01-01T00:00:00.0Z",
        None,
        None,
        "mail",
        "",
        None,
    )
    read = json.loads(delivery_json(row))
    assert (read["not_before"], read["password"], read["said"]) == (None, None, None)
    assert (read["way"], read["series"], read["predecessor"]) == ("mail", None, None)
