"""What the environment of templates does in ways of its own, for speed: styles of the layout, and the lines of a paragraph."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from hypothesis import example, given
from hypothesis import strategies as st

from distributor.mail.template_samples import sample
from distributor.mail.templates import TemplateRenderer, _wrapped

IMPORTED = '{% from "message/_layout.html" import s %}'
PIECES = ["a", "bc-d", "word", "3.", "\N{NO-BREAK SPACE}x", "\N{BOPOMOFO LETTER A}", "x" * 71, "y" * 90, " ", "  ", "\n", "\t"]


def rendered(own: Path, page: str) -> str:
    """A page of somebody's own."""
    (own / "body.html").write_text(IMPORTED + page)
    return TemplateRenderer(own.parents[2]).render(own.name, sample()).html


def test_styles_are_the_same_where_they_are_looked_up_while_rendering(own: Path) -> None:
    names = ("p", "h2", "ol", "ul", "li", "a", "b", "code", "day")
    at_once = " ".join(f"<p{{{{ s.{name} }}}}>" for name in names)
    early, late = rendered(own, "{% set own = s %}" + at_once + "|" + at_once.replace("s.", "own.")).split("|")
    assert early == late
    assert early.startswith('<p style="margin:0 0 16px"> <p class="ink"')


def test_a_page_may_have_styles_of_its_own_under_the_same_name(own: Path) -> None:
    assert rendered(own, '{% set s = {"p": "<ours>"} %}<p {{ s.p }}>') == "<p &lt;ours&gt;>"


def test_a_loop_may_use_the_name_of_the_styles(own: Path) -> None:
    assert rendered(own, '{% for s in [{"p": "one"}, {"p": "two"}] %}{{ s.p }} {% endfor %}') == "one two "


def test_a_style_that_is_not_marked_as_safe_is_escaped(own: Path) -> None:
    (own.parent / "_layout.html").write_text('{% set s = {"p": "<plain>"} %}')
    assert rendered(own, "<p {{ s.p }}>") == "<p &lt;plain&gt;>"


@example(["x" * 71, " ", "a"])
@example(["x" * 70, " ", "a"])
@given(st.lists(st.sampled_from(PIECES), max_size=60))
def test_paragraphs_are_broken_as_textwrap_breaks_them(pieces: list[str]) -> None:
    text = "".join(pieces).strip()
    numbered = re.sub(r"\b(\d+\.) ", "\\1\N{NO-BREAK SPACE}", text)
    expected = textwrap.wrap(numbered, 72, break_long_words=False, break_on_hyphens=False)
    assert "".join(f"{line}\n" for line in expected) == _wrapped(text)
