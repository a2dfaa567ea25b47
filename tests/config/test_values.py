"""The notations of distributor.toml, there and back."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.config.converter import duration, duration_text, rate, rate_text, size, size_text


@pytest.mark.parametrize(("text", "per_minute"), [("30/min", 30), ("2/s", 120), ("600/h", 10), ("0.5 / s", 30)])
def test_a_rate_is_messages_a_minute(text: str, per_minute: float) -> None:
    assert rate(text) == per_minute


@pytest.mark.parametrize(
    ("text", "length"),
    [("14d", timedelta(14)), ("60s", timedelta(seconds=60)), ("90 min", timedelta(minutes=90)), ("1.5h", timedelta(minutes=90))],
)
def test_a_length_of_time(text: str, length: timedelta) -> None:
    assert duration(text) == length


@pytest.mark.parametrize("text", ["", "30", "30/day", "-1/s", "0/s", "many/min", "1e9/s"])
def test_what_is_no_rate_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is not a rate"):
        rate(text)


@pytest.mark.parametrize("text", ["", "14", "14 fortnights", "-1d", "0s"])
def test_what_is_no_length_of_time_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        duration(text)


@pytest.mark.parametrize("text", ["999999999d", "9" * 400 + "d", "3654d", "600w"])
def test_a_time_that_no_calendar_holds_is_told(text: str) -> None:
    with pytest.raises(ValueError, match="longer than ten years"):
        duration(text)


@pytest.mark.parametrize(("text", "number"), [("1MiB", 2**20), ("512 KiB", 2**19), ("2GB", 2 * 10**9), ("100B", 100)])
def test_a_size_is_bytes(text: str, number: int) -> None:
    assert size(text) == number


@given(st.integers(1, 3 * 10**8))
def test_what_is_written_is_read_again(number: int) -> None:
    assert size(size_text(number)) == number
    assert duration(duration_text(timedelta(seconds=number))) == timedelta(seconds=number)
    assert rate(rate_text(number % 1000 + 1)) == number % 1000 + 1


def test_a_minute_is_written_in_seconds_as_in_the_manual() -> None:
    assert duration_text(timedelta(seconds=60)) == "60s"
    assert duration_text(timedelta(days=14)) == "14d"
