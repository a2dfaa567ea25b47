"""Reminders: what they say in every language, in text and HTML alike, and nothing that could be mistaken for phishing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from distributor.mail.template_samples import sample
from distributor.mail.templates import CALENDAR, EXPIRING, REMINDERS, UNCOLLECTED, UNCONFIRMED, TemplateRenderer
from distributor.model.people import Helpdesk
from tests.mail.test_templates import LANGUAGES, Page, contrast, words
from tests.mail.test_templates import Colours as ColourPairs

VARIANTS = [(kind, language, generation) for kind in REMINDERS for language in LANGUAGES for generation in (1, 2)]
BLOCKS = {
    EXPIRING: ("greeting", "introduction", "renew", "switch", "calendar", "genuine", "footer"),
    UNCOLLECTED: ("greeting", "introduction", "collect", "after", "lost", "genuine", "footer"),
    UNCONFIRMED: ("greeting", "introduction", "works", "install", "lost", "genuine", "footer"),
}


@pytest.mark.parametrize(("kind", "language", "generation"), VARIANTS)
def test_text_and_html_say_the_same_and_nothing_is_fetched_or_linked(kind: str, language: str, generation: int) -> None:
    wording = TemplateRenderer(None, kinds=(kind,)).render(language, sample(generation=generation))
    assert wording.language == language
    assert words(wording.text) == Page(wording.html).words
    assert len(words(wording.text)) > 80
    assert max(len(line) for line in wording.text.splitlines()) <= 76
    assert len(wording.subject) < 80
    assert not re.search(r"https?:|//|url\(|@import|src=|href=|javascript:", wording.html + wording.text)
    assert "abcde" not in wording.text + wording.html + wording.subject  # the sample's password
    for needed in ("alice@example.org", "certificates@example.org", "4f2a90c1"):
        assert needed in wording.text
    assert ("certificates.example.org" in wording.text) == (generation == 2)  # the portal, where there is one


@pytest.mark.parametrize("language", LANGUAGES)
def test_an_expiring_certificate_has_its_day_and_what_to_do_and_an_expired_one_other_words(language: str) -> None:
    soon, gone = (TemplateRenderer(None, kinds=(EXPIRING,)).render(language, sample(generation=generation)) for generation in (1, 2))
    for wording in (soon, gone):
        assert "2028" in wording.subject
        assert "Outlook" in wording.text
    assert "+49 30 1234567" in " ".join(soon.text.split())
    assert soon.subject != gone.subject
    assert len(soon.text.split("--")[0]) != len(gone.text.split("--")[0])


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_calendar_entry_has_a_title_and_a_text_that_fit_one_line_each(language: str) -> None:
    for helpdesk in (Helpdesk("IT Service", "+49 30 1234567", "Mon-Fri 8-17"), Helpdesk()):
        (entry,) = TemplateRenderer(None, kinds=(EXPIRING,)).render_files(language, (CALENDAR,), sample() | {"helpdesk": helpdesk})
        title, blank, text = entry.rstrip("\n").split("\n")
        assert (blank, "S/MIME" in title, "alice@example.org" in text) == ("", True, True)
        assert not re.search(r": ,|\(\)|  ", text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_password_that_never_expires_has_no_last_day(language: str) -> None:
    renderer = TemplateRenderer(None, kinds=(UNCOLLECTED,))
    values = sample()
    ends, never = renderer.render(language, values), renderer.render(language, {**values, "fetch_by": None})
    assert "2026" in ends.subject
    assert "2026" not in never.subject
    assert len(never.text) < len(ends.text)


@pytest.mark.parametrize(("kind", "language"), [(kind, language) for kind in REMINDERS for language in LANGUAGES])
@pytest.mark.parametrize("name", ["body.txt", "body.html"])
def test_any_one_block_may_be_replaced(tmp_path: Path, kind: str, language: str, name: str) -> None:
    for block in BLOCKS[kind]:
        own = tmp_path / block / "templates" / kind / language
        own.mkdir(parents=True)
        (own / name).write_text(f'{{% extends "packaged/{kind}/{language}/{name}" %}}{{% block {block} %}}Ours.{{% endblock %}}')
        wording = TemplateRenderer(tmp_path / block, kinds=(kind,)).render(language, sample())
        assert (wording.text if name == "body.txt" else wording.html).count("Ours.") == 1, block


@pytest.mark.parametrize("kind", REMINDERS)
@pytest.mark.parametrize("night", [False, True], ids=["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(kind: str, *, night: bool) -> None:
    pairs = ColourPairs(TemplateRenderer(None, kinds=(kind,)).render("en", sample()).html, night=night).pairs
    assert len(pairs) >= 6
    assert {pair: contrast(*pair) for pair in pairs if contrast(*pair) < 4.5} == {}


def test_a_reminder_s_faulty_template_is_told_with_its_file_and_line(tmp_path: Path) -> None:
    own = tmp_path / "templates" / EXPIRING / "en"
    own.mkdir(parents=True)
    (own / CALENDAR).write_text("Your certificate\n\n{{ certificate.not_aftr }}\n")
    (found,) = TemplateRenderer(tmp_path, kinds=("message", *REMINDERS)).check()
    assert (found.level, "templates/reminder/expiring/en/calendar.txt line 3" in found.message) == ("error", True), found
