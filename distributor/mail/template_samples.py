"""Made-up values of the kind that templates are rendered with, for `doctor` and the tests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from distributor.model.people import Helpdesk


def samples() -> Iterator[dict[str, object]]:
    """Sample values: one set for each password channel, for first and later generations."""
    for generation, (channel, use) in enumerate((("reveal", ""), ("letter", "signing"), ("mail", "encryption")), 1):
        yield sample(channel, generation, use)


class _Columns(dict[str, str]):
    """A roster row in which every column exists."""

    def __missing__(self, key: str) -> str:
        return key


def sample(channel: str = "reveal", generation: int = 1, use: str = "") -> dict[str, object]:
    """Made-up values of the kind that a message is rendered with."""
    columns = _Columns()
    one = {"sent": datetime(2026, 11, 2, 8, tzinfo=UTC), "not_after": datetime(2028, 11, 1, 8, tzinfo=UTC)}
    return {
        "organisation": {"name": "Example AG"},
        "person": {"name": "Alice Example", "address": "alice@example.org", "columns": columns},
        "column": columns,
        "certificate": {
            "not_before": datetime(2026, 11, 2, 8, tzinfo=UTC),
            "not_after": datetime(2028, 11, 1, 8, tzinfo=UTC),
            "serial": "4f2a90c1d7",
            "issuer": "CN=Example Mail CA",
            "sha256": "ab" * 32,
            "use": use,
            "expired": generation > 1,
        },
        "series": {"number": 1, "total": 2} if use == "encryption" else None,
        "renews": datetime(2026, 11, 30, 8, tzinfo=UTC) if use == "signing" else None,
        "file_name": "Alice Example SMIME 2026 4f2a90c1.pfx",
        "sender": {"address": "certificates@example.org", "name": "Certificate Service"},
        "contact": "certificates@example.org",
        "channel": channel,
        "password": {
            "groups": 5,
            "length": 5,
            "shape": "-".join(["xxxxx"] * 5),
            "plain": True,
            "label": "4711",
            "to": "manager" if generation > 1 else "alternate_email",
            "text": "abcde-fghjk-mnpqr-stuvw-xyzab",
            **one,
        },
        "passwords": [{"number": 1, "label": "4711", **one}, {"number": 2, "label": "0815", **one}][:generation],
        "portal": "certificates.example.org" if generation > 1 else "",
        "today": datetime(2026, 11, 3, 8, tzinfo=UTC),
        "since": datetime(2026, 11, 2, 8, tzinfo=UTC),
        "generation": generation,
        "expires": 14,
        "request_by_mail": generation == 1,
        "confirmation": "" if use == "encryption" or channel == "self" else "certificates@example.org",
        "reference": "d-01JX0ABCDEFGHJKMNPQRSTVWXY",
        "fetch_by": datetime(2026, 11, 16, 8, tzinfo=UTC),
        "helpdesk": Helpdesk("IT Service", "+49 30 1234567", "Mon-Fri 8-17") if generation == 1 else Helpdesk(),
    }
