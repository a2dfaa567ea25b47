"""The roll-out as lines: how many deliveries were planned, accepted, delivered and installed by the end of each day."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

WIDTH, HEIGHT = 520, 200  # of the plot, in units of the viewBox
LABEL = 15  # units between two labels
TICKS = 6  # dates below the plot, at most


@dataclass(frozen=True, slots=True)
class Line:
    """A line, and its label at the right end."""

    name: str
    points: str  # of an SVG polyline
    total: int
    end: float  # y of the last point
    label: float  # y of the label, moved so that labels do not overlap


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines with their axes; `days` has the totals by the end of some days, the last one among them, for a table."""

    lines: tuple[Line, ...]
    across: tuple[Tick, ...]
    up: tuple[Tick, ...]
    days: tuple[tuple[date, tuple[int, ...]], ...]
    first: date
    last: date


def chart(days: Mapping[str, Counter[date]], first: date | None, last: date) -> Chart | None:
    """The chart from `first` (None: from the first day with a delivery) to `last`; None where there is nothing to show."""
    known = [day for counts in days.values() for day in counts]
    if not known:
        return None
    begin = first if first is not None else min(known)
    start = min(begin, last) - timedelta(days=1)  # each line begins with what there was before
    dates = [start + timedelta(days=n) for n in range((last - start).days + 1)]
    totals = [_running(counts, dates) for counts in days.values()]
    top = _round_up(max(map(max, totals)))
    ends = [_y(values[-1], top) for values in totals]
    lines = [
        Line(name, _points(values, top), values[-1], end, label)
        for name, values, end, label in zip(days, totals, ends, _apart(ends), strict=True)
    ]
    shown = _some(len(dates), 31)
    return Chart(
        tuple(lines),
        tuple(Tick(_x(n, len(dates)), f"{dates[n]:%Y-%m-%d}") for n in _some(len(dates), TICKS)),
        tuple(Tick(_y(top * n // 4, top), f"{top * n // 4:,}".replace(",", "\u202f")) for n in range(5) if top * n % 4 == 0),
        tuple((dates[n], tuple(values[n] for values in totals)) for n in shown if n),
        dates[1],
        last,
    )


def _running(counts: Counter[date], dates: Sequence[date]) -> list[int]:
    total = sum(number for day, number in counts.items() if day < dates[0])
    return [total := total + counts[day] for day in dates]


def _points(values: Sequence[int], top: int) -> str:
    """A polyline; points inside a level stretch are left out."""
    kept = [n for n, value in enumerate(values) if n in {0, len(values) - 1} or not values[n - 1] == value == values[n + 1]]
    return " ".join(f"{_x(n, len(values)):g},{_y(values[n], top):g}" for n in kept)


def _x(number: int, dates: int) -> float:
    return round(WIDTH * number / max(1, dates - 1), 1)


def _y(value: int, top: int) -> float:
    return round(HEIGHT - HEIGHT * value / top, 1)


def _round_up(number: int) -> int:
    """The next number of 1, 2, 4, 6, 8 and zeros: each has quarters or halves that are whole, from 4 on."""
    size = 1
    while True:
        for digit in (1, 2, 4, 6, 8):
            if digit * size >= number:
                return digit * size
        size *= 10


def _apart(ends: Sequence[float]) -> list[float]:
    """Heights of labels, from the lowest line upwards, none closer than LABEL to the next; lines are nested, so the order stays."""
    heights: list[float] = []
    for end in reversed(ends):
        heights.append(min(end, heights[-1] - LABEL) if heights else end)
    if heights[-1] < 0:  # no room above: from the top downwards
        heights = [max(height, (len(heights) - 1 - n) * LABEL) for n, height in enumerate(heights)]
    return heights[::-1]


def _some(number: int, most: int) -> list[int]:
    """At most so many of the numbers below `number`, evenly spread, the first and the last among them."""
    if number <= most:
        return list(range(number))
    return [round(n * (number - 1) / (most - 1)) for n in range(most)]
