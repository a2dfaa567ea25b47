"""Renders the audit report from the program's own template, piece by piece, as one HTML file that loads nothing.

Foreign text is escaped three times over: markup by Jinja, control and bidi characters as visible escapes, and what a spreadsheet would
take for a formula with an apostrophe, since such programs open HTML tables too.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from distributor.mail.templates import packaged
from distributor.model.people import escape_unsafe, neutralise_formula

_POLICY = "default-src 'none'; style-src 'sha256-{}'; base-uri 'none'; form-action 'none'"


class ReportTemplate:
    """The template of the report, and that of one row in it."""

    def __init__(self) -> None:
        folder = packaged() / "report"
        self._environment = Environment(
            loader=FileSystemLoader(folder),
            autoescape=True,
            undefined=StrictUndefined,
            finalize=_safe,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters |= {"moment": _moment, "day": _day, "count": _count, "isoday": str}
        css = (folder / "report.css").read_text(encoding="utf-8")
        self._style = {"css": css, "policy": _POLICY.format(b64encode(sha256(css.encode()).digest()).decode())}
        macros: Any = self._environment.get_template("_row.html").module
        self.row: Callable[[object], str] = macros.row

    def pieces(self, **values: object) -> Iterator[str]:
        """The whole file in pieces. An iterator among the values is read while the file is made."""
        return self._environment.get_template("report.html").generate(**self._style, **values)


def _safe(value: object) -> object:
    if not isinstance(value, str) or hasattr(value, "__html__"):  # the latter is markup of ours
        return value
    return neutralise_formula(escape_unsafe(value))


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M}"


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d}"


def _count(number: int) -> str:
    """With thin spaces between thousands."""
    return f"{number:,}".replace(",", "\u202f")
