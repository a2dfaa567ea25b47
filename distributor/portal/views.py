"""Renders the portal's pages: templates and texts are loaded once, at start."""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from babel.dates import format_date
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, Response

from distributor.config.schema import Organisation
from distributor.errors import InvalidInput
from distributor.files.reader import FileRefused, read_file
from distributor.model.requests import DayCount
from distributor.model.states import State

LANGUAGES = ("en", "de", "fr", "it", "es")  # those of the messages
STAFF_LANGUAGE = "en"  # pages of administrators, helpdesk and auditors: as the command line
LARGEST_LOGO = 256 * 2**10  # bytes
COLOUR = "#0b5394"
_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".png": "image/png"}
_LOGO_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"  # an SVG may contain scripts


@dataclass(frozen=True, slots=True)
class StaticFile:
    """A file that browsers may keep: its name contains its hash."""

    content: bytes
    kind: str

    def response(self) -> Response:
        """The file, for an hour."""
        headers = {"cache-control": "public, max-age=3600, immutable", "content-security-policy": _LOGO_POLICY}
        return Response(self.content, media_type=self.kind, headers=headers)


class Texts:
    """The texts of one language. A text's values are escaped by the template that shows it."""

    def __init__(self, language: str, texts: Mapping[str, str]) -> None:
        self.language, self._texts = language, texts

    def __call__(self, key: str, **values: object) -> str:
        """A text with its values."""
        return self._texts[key].format_map(values)

    def has(self, key: str) -> bool:
        """Whether there is such a text."""
        return key in self._texts

    def day(self, moment: datetime) -> str:
        """The day as the language writes it."""
        return _day(moment.astimezone(UTC).date(), self.language)


@lru_cache(1024)
def _day(day: date, language: str) -> str:
    return format_date(day, "long", language)


class Views:
    """The portal's pages."""

    def __init__(self, folder: Path, organisation: Organisation) -> None:
        """`folder`: templates/portal. Raises InvalidInput where the logo cannot be read."""
        self._organisation = organisation
        self.texts = {tag: Texts(tag, tomllib.loads((folder / "texts" / f"{tag}.toml").read_text(encoding="utf-8"))) for tag in LANGUAGES}
        self.files, self._paths = _static_files(folder / "static", organisation)
        self._environment = Environment(
            loader=FileSystemLoader(folder),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            auto_reload=False,
        )
        self._environment.filters["moment"] = lambda moment: f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        self._environment.globals.update(
            organisation=organisation.name,
            helpdesk=organisation.helpdesk,
            static=self._paths.__getitem__,
            logo=self._paths.get("logo"),
            languages=[(tag, texts("language")) for tag, texts in self.texts.items()],
        )
        macros: Any = self._environment.get_template("_hidden.html").module
        self._environment.globals["hidden"] = macros.hidden  # the token of every form
        parts: Any = self._environment.get_template("_parts.html").module
        # the same for everybody with this language and phone
        self._environment.globals["phones"] = lru_cache(64)(lambda t, phone: parts.phones(t, self._paths.__getitem__, phone))
        for name in self._environment.list_templates(extensions=["html"]):
            self._environment.get_template(name)

    def page(self, name: str, language: str, status: int = 200, headers: Mapping[str, str] | None = None, /, **values: Any) -> HTMLResponse:  # noqa: ANN401  a template's
        """A page in a language."""
        texts = self.texts[language]
        html = self._environment.get_template(f"{name}.html").render(t=texts, language=language, **values)
        return HTMLResponse(html, status, headers=dict(headers or {}))


def nearest(tags: Sequence[str]) -> str:
    """The first of these language tags that the portal speaks, or English."""
    return next((short for tag in tags if (short := tag.replace("_", "-").partition("-")[0].lower()) in LANGUAGES), LANGUAGES[0])


def accepted(header: str) -> list[str]:
    """The languages of an Accept-Language header, the most wanted first."""
    found = []
    for number, part in enumerate(header[:200].split(",")):
        tag, _, quality = part.partition(";q=")
        try:
            found.append((-float(quality or 1), number, tag.strip()))
        except ValueError:
            continue
    return [tag for _, _, tag in sorted(found)]


# --- files -----------------------------------------------------------------------------------------------------------


def _static_files(folder: Path, organisation: Organisation) -> tuple[dict[str, StaticFile], dict[str, str]]:
    """The files by their path, and the paths by the files' names."""
    contents = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    contents["portal.css"] = colours(organisation.colour or COLOUR).encode() + contents["portal.css"]
    names = {name: name for name in contents}
    if organisation.logo is not None:
        try:
            contents[organisation.logo.name] = read_file(str(organisation.logo), LARGEST_LOGO, follow=True)
        except FileRefused as refused:
            raise InvalidInput(refused.message, where="organisation.logo", hint="correct the path, or remove the key") from None
        names["logo"] = organisation.logo.name
    paths = {key: f"/static/{hashlib.sha256(contents[name]).hexdigest()[:16]}{Path(name).suffix.lower()}" for key, name in names.items()}
    return {paths[key]: StaticFile(contents[name], _TYPES[Path(name).suffix.lower()]) for key, name in names.items()}, paths


# --- colours ---------------------------------------------------------------------------------------------------------


def colours(colour: str) -> str:
    """The organisation's colour as CSS properties, changed as far as it must be to be read as text (WCAG 1.4.3: a contrast of 4.5)."""
    light, dark = _readable(colour, "#ffffff", darker=True), _readable(colour, "#1d2126", darker=False)
    rules = f":root{{--brand:{colour};--on-brand:{on(colour)};--accent:{light};--on-accent:{on(light)}}}"
    return f"{rules}\n@media (prefers-color-scheme:dark){{:root{{--accent:{dark};--on-accent:{on(dark)}}}}}\n"


def on(colour: str) -> str:
    """Black or white, whichever is easier to read on a colour."""
    return max(("#ffffff", "#000000"), key=lambda text: contrast(text, colour))


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, 1 to 21."""
    high, low = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    parts = [value / 255 for value in bytes.fromhex(colour[1:])]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)  # noqa: PLR2004  sRGB
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _readable(colour: str, ground: str, *, darker: bool) -> str:
    """The colour, mixed with black or white until it can be read on a ground."""
    target, parts = (0 if darker else 255), bytes.fromhex(colour[1:])
    for step in range(21):
        mixed = "#" + bytes(round(part + (target - part) * step / 20) for part in parts).hex()
        if contrast(mixed, ground) >= 5:  # noqa: PLR2004  somewhat more than 4.5, for grounds that are tinted
            return mixed
    return on(ground)


# --- the chart -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bar:
    """A part of a bar: lengths in units of the chart's viewBox."""

    state: str
    x: float
    y: float
    height: float
    label: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars by day, each of several states on top of each other."""

    bars: tuple[Bar, ...]
    width: float  # of a bar
    largest: int
    first: date
    last: date


CHART_DAYS, CHART_WIDTH, CHART_HEIGHT = 30, 600, 160
CHARTED = (State.ACCEPTED, State.INSTALLED, State.BOUNCED, State.REJECTED)


def chart(counts: Sequence[DayCount], today: date) -> Chart:
    """The last thirty days."""
    days = [today - timedelta(days=CHART_DAYS - 1 - n) for n in range(CHART_DAYS)]
    by_day = {(count.day, count.state): count.count for count in counts}
    largest = max((sum(by_day.get((day, state), 0) for state in CHARTED) for day in days), default=0)
    step = CHART_WIDTH / CHART_DAYS
    bars = []
    for number, day in enumerate(days):
        top = float(CHART_HEIGHT)
        for state in CHARTED:
            if count := by_day.get((day, state), 0):
                height = round(CHART_HEIGHT * count / largest, 2)
                top -= height
                bars.append(Bar(str(state), round(number * step + 2, 2), round(top, 2), height, f"{day:%Y-%m-%d}: {count} {state}"))
    return Chart(tuple(bars), step - 4, largest, days[0], days[-1])
