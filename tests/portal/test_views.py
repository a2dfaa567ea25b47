"""Texts, colours and the chart."""

from __future__ import annotations

import re
import tomllib
from datetime import date, timedelta
from pathlib import Path

import pytest

from distributor.config.schema import Organisation
from distributor.errors import InvalidInput
from distributor.mail.templates import packaged
from distributor.model.requests import DayCount
from distributor.model.states import PasswordState, State
from distributor.portal.views import CHART_HEIGHT, LANGUAGES, Views, accepted, chart, colours, contrast, nearest, on

FOLDER = packaged() / "portal"
CATALOGUES = {tag: tomllib.loads((FOLDER / "texts" / f"{tag}.toml").read_text(encoding="utf-8")) for tag in LANGUAGES}


@pytest.mark.parametrize("tag", LANGUAGES)
def test_every_language_has_every_text_with_its_values(tag: str) -> None:
    english = {key: set(re.findall(r"{(\w+)}", text)) for key, text in CATALOGUES["en"].items()}
    assert {key: set(re.findall(r"{(\w+)}", text)) for key, text in CATALOGUES[tag].items()} == english
    same = {key for key, text in CATALOGUES[tag].items() if text == CATALOGUES["en"][key]}
    assert tag == "en" or same <= {"android"}


def test_every_text_is_used_and_every_text_that_is_used_exists() -> None:
    """Keys that are put together in the code are known by their beginning."""
    sources = [*FOLDER.glob("*.html"), *(Path(__file__).parents[2] / "distributor" / "portal").glob("*.py")]
    words = set(re.findall(r"\w+", "\n".join(path.read_text(encoding="utf-8") for path in sources)))
    made = {f"state_{name}{end}" for name in ("preparing", "checking", "sent", "installed", "failed", "withdrawn") for end in ("", "_text")}
    made |= {f"password_{state}" for state in (*PasswordState, "letter", "mail", "shown")}
    beginnings = ("reason_", "iphone_", "android_", "request_")
    unused = {key for key in CATALOGUES["en"] if key not in words | made and not key.startswith(beginnings)}
    assert {key for key in unused if key.removesuffix("_title").removesuffix("_text") not in words} == set()


def test_the_browsers_languages_are_taken_in_its_order() -> None:
    assert nearest(accepted("pt-BR, fr-CH;q=0.7, de;q=0.9")) == "de"
    assert nearest(accepted("nonsense;q=x, *;q=0.1")) == "en"
    assert nearest(accepted("de-AT,en;q=0.3")) == "de"


@pytest.mark.parametrize("colour", ["#0b5394", "#ffcc00", "#ffffff", "#000000", "#777777", "#e4002b", "#00ff00"])
def test_any_colour_of_an_organisation_can_be_read(colour: str) -> None:
    rules = colours(colour)
    found = [dict(re.findall(r"--([\w-]+):(#[0-9a-f]{6})", block)) for block in rules.split("@media")]
    assert contrast(found[0]["brand"], found[0]["on-brand"]) >= 4.5
    for block, grounds in ((found[0], ("#ffffff", "#f5f6f8")), (found[1], ("#1d2126", "#14171a"))):
        assert contrast(block["accent"], block["on-accent"]) >= 4.5
        assert all(contrast(block["accent"], ground) >= 4.5 for ground in grounds)


def test_contrast_is_that_of_wcag() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)
    assert on("#777777") == "#000000"


def test_the_colours_of_the_page_can_be_read() -> None:
    css = (FOLDER / "static" / "portal.css").read_text(encoding="utf-8")
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in css.split("@media (prefers-color-scheme: dark)")[:2])
    for theme in (light, {**light, **dark}):
        for text in ("text", "soft"):
            assert all(contrast(theme[text], theme[ground]) >= 4.5 for ground in ("ground", "surface"))
        assert all(contrast(theme[tone], theme[f"{tone}-ground"]) >= 4.5 for tone in ("good", "wait", "bad"))
        assert contrast(theme["field"], theme["surface"]) >= 3


def test_the_chart_stacks_each_day_and_the_highest_fills_it() -> None:
    today = date(2026, 11, 30)
    counts = [
        DayCount(today, State.ACCEPTED, 6),
        DayCount(today, State.BOUNCED, 2),
        DayCount(today - timedelta(days=29), State.INSTALLED, 4),
    ]
    drawn = chart(counts, today)
    assert (drawn.largest, drawn.first, drawn.last) == (8, date(2026, 11, 1), today)
    assert [(bar.state, bar.y, bar.height) for bar in drawn.bars] == [
        ("installed", CHART_HEIGHT / 2, CHART_HEIGHT / 2),
        ("accepted", CHART_HEIGHT / 4, CHART_HEIGHT * 3 / 4),
        ("bounced", 0, CHART_HEIGHT / 4),
    ]
    assert drawn.bars[0].x < drawn.bars[1].x
    assert drawn.bars[0].label == "2026-11-01: 4 installed"


def test_an_empty_chart_draws_nothing() -> None:
    assert chart([], date(2026, 11, 30)).bars == ()


def test_what_an_organisation_is_called_is_escaped(tmp_path: Path) -> None:
    views = Views(FOLDER, Organisation("<b>A & B</b>"))
    page = views.page("outcome", "en", title="x", text="<script>", help=False, session=None, token="t", target="/", section="")
    text = bytes(page.body).decode()
    assert "&lt;b&gt;A &amp; B&lt;/b&gt;" in text
    assert "<script>" not in text
    with pytest.raises(InvalidInput) as told:
        Views(FOLDER, Organisation("A", logo=tmp_path / "missing.svg"))
    assert told.value.where == "organisation.logo"


def test_dark_differs_from_light_in_colours_only() -> None:
    css = (FOLDER / "static" / "portal.css").read_text(encoding="utf-8") + colours("#0b5394")
    blocks = re.findall(r"@media \(prefers-color-scheme: ?dark\) ?{\s*:root ?{(.*?)}\s*}", css, re.DOTALL)
    assert len(blocks) == css.count("prefers-color-scheme") == 2
    assert all(re.fullmatch(r"\s*(?:--[\w-]+: ?#[0-9a-f]{6};?\s*)+", block) for block in blocks)
