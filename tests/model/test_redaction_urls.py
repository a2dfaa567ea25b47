"""A URL with a password in it: what is shown of it, however wrongly it is written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.model.redaction import is_unambiguous, without_password


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("sqlite:///distributor.db", "sqlite:///distributor.db"),
        ("sqlite:////var/lib/a@b/distributor.db", "sqlite:////var/lib/a@b/distributor.db"),
        ("postgresql+psycopg://db.example.org:5432/ledger", "postgresql+psycopg://db.example.org:5432/ledger"),
        ("postgresql+psycopg://ledger@db.example.org/ledger", "postgresql+psycopg://ledger@db.example.org/ledger"),
        ("postgresql+psycopg://me:hunter2@db.example.org/x", "postgresql+psycopg://me:***@db.example.org/x"),
        ("postgresql+psycopg://me:hunt/er2@db.example.org/x", "postgresql+psycopg://me:***@db.example.org/x"),
        ("postgresql+psycopg://me:hunt@er2@db.example.org/x", "postgresql+psycopg://me:***@db.example.org/x"),
        ("postgresql+psycopg://me:hunt?er2@db.example.org/x", "postgresql+psycopg://***"),
        ("postgresql+psycopg://:hunter2@db.example.org/x", "postgresql+psycopg://***:***@db.example.org/x"),
        ("postgresql+psycopg://me:hunter2", "postgresql+psycopg://***"),
        ("postgresql:me:hunter2@db", "***"),
        ("host=db password=hunter2", "***"),
        (
            "postgresql+psycopg://[::1]:5432/x?sslmode=require&password=hunter2",
            "postgresql+psycopg://[::1]:5432/x?sslmode=require&password=***",
        ),
        ("postgresql+psycopg:///x?host=/run/pg&sslpassword=hunter2", "postgresql+psycopg:///x?host=/run/pg&sslpassword=***"),
        ("postgresql+psycopg:///x?PASSFILE=/hunter2&service=hunter2", "postgresql+psycopg:///x?PASSFILE=***&service=***"),
        ("postgresql+psycopg://me@db/x?password=hunter2&er2", "postgresql+psycopg://me@db/x?password=***&***"),
        ("postgresql+psycopg://me@db/x?password=h@unter2", "postgresql+psycopg://***"),
        ("sqlite+pysqlcipher:///x.db?passphrase=hunter2", "sqlite+pysqlcipher:///x.db?passphrase=***"),
        ("https://login.microsoftonline.com", "https://login.microsoftonline.com"),
        ("https://graph.microsoft.com/v1.0/x", "https://graph.microsoft.com/v1.0/x"),
    ],
)
def test_a_url_is_shown_without_its_passwords(url: str, seen: str) -> None:
    assert without_password(url) == seen


WORDS = st.text("aB3@/:?#&;=% ", min_size=4, max_size=12).map(lambda word: f"Zq7{word}Wx9")


@given(WORDS)
def test_no_part_of_an_unescaped_password_is_shown(word: str) -> None:
    for url in (f"postgresql+psycopg://me:{word}@db/x", f"postgresql+psycopg://me@db/x?password={word}&sslmode=require"):
        assert "Zq7" not in without_password(url)
        assert "Wx9" not in without_password(url)


def test_a_url_that_can_be_read_in_two_ways_is_known() -> None:
    assert is_unambiguous("postgresql+psycopg://me:hunter%402@db.example.org:5432/x?sslmode=require")
    assert is_unambiguous("postgresql+psycopg:///x?host=/run/postgresql&password=hunter2")
    for url in ("me:hunt@er2@db/x", "me:hunt/er2@db/x", "me:hunt?er2@db/x", "me:h:u@db/x", "me:hunter2", "me:h#u@db/x"):
        assert not is_unambiguous(f"postgresql+psycopg://{url}")
