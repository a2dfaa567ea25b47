"""What a person is told after an incident: in the person's language, about one certificate or several, with the words of the workspace."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from distributor.errors import InvalidInput
from distributor.mail.templates import INCIDENT, TemplateRenderer, available, packaged
from distributor.model.people import Helpdesk
from distributor.workflows.incident import ExposedCertificate, PersonText, PersonTexts

LANGUAGES = available((packaged(),))


def certificate(serial: str) -> ExposedCertificate:
    end = datetime(2028, 11, 1, 8, tzinfo=UTC)
    return ExposedCertificate("ab" * 32, serial, "CN=CA", "CN=Alice", end, None, None, left=True)


def text(language: str, *serials: str, workspace: Path | None = None, name: str = "Alice", helpdesk: Helpdesk | None = None) -> str:
    texts = PersonTexts(TemplateRenderer(workspace, kinds=(INCIDENT,)), "Example AG", "it@example.org", helpdesk or Helpdesk())
    return texts(PersonText("alice@example.org", name, language, tuple(map(certificate, serials))))


def test_every_language_of_the_messages_has_the_text() -> None:
    assert len(LANGUAGES) == 5
    assert available((packaged(),), INCIDENT) == LANGUAGES
    assert len({text(language, "4f2a") for language in LANGUAGES}) == 5


@pytest.mark.parametrize("language", LANGUAGES)
def test_it_names_the_person_the_certificates_and_four_steps(language: str) -> None:
    one, two = text(language, "4f2a"), text(language, "4f2a", "77aa")
    assert ("Alice" in one, "4f2a" in one, "2028" in one, "it@example.org" in one) == (True,) * 4
    assert [line[:2] for line in one.splitlines() if line[:1].isdecimal()] == ["1.", "2.", "3.", "4."]
    assert max(map(len, one.splitlines())) <= 72
    assert "77aa" in two
    assert one.split("\n\n")[3] != two.split("\n\n")[3]  # singular and plural
    assert "+49 30" in text(language, "4f2a", helpdesk=Helpdesk("IT", "+49 30", "")).replace("\N{NO-BREAK SPACE}", " ")
    assert "Alice" not in text(language, "4f2a", name="")


def test_a_regional_language_uses_the_wider_one_and_an_unknown_one_english() -> None:
    assert text("de-AT", "4f2a") == text("de", "4f2a")
    assert text("pt", "4f2a") == text("en", "4f2a")


def test_a_block_of_the_workspace_replaces_the_packaged_one(tmp_path: Path) -> None:
    folder = tmp_path / "templates" / "incident" / "en"
    folder.mkdir(parents=True)
    (folder / "body.txt").write_text('{% extends "packaged/incident/en/body.txt" %}{% block steps %}Call 4711.\n{% endblock %}', "utf-8")
    assert "Call 4711." in text("en", "4f2a", workspace=tmp_path)
    assert "\n1." not in text("en", "4f2a", workspace=tmp_path)


def test_doctor_finds_a_fault_in_it(tmp_path: Path) -> None:
    folder = tmp_path / "templates" / "incident" / "fr"
    folder.mkdir(parents=True)
    (folder / "body.txt").write_text("{{ organisation.name }}\n{{ nobody.knows }}\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match=r"templates/incident/fr/body\.txt line 2"):
        text("fr", "4f2a", workspace=tmp_path)
    (found,) = [each for each in TemplateRenderer(tmp_path, kinds=(INCIDENT,)).check() if each.level == "error"]
    assert "templates/incident/fr/body.txt line 2" in found.message
    assert [each.level for each in TemplateRenderer(None, kinds=(INCIDENT,)).check()] == ["ok"]
