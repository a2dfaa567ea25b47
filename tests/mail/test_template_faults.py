"""Templates with mistakes: what is said of each, when a message is made and by `doctor`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distributor.errors import InvalidInput
from distributor.mail.template_samples import sample
from distributor.mail.templates import LARGEST_TEMPLATE, LARGEST_TEXT, TemplateRenderer
from tests.mail.test_templates import LANGUAGES

# --- faults ----------------------------------------------------------------------------------------------------------


def refused(own: Path, body: str, name: str = "body.txt", **values: object) -> InvalidInput:
    (own / name).write_text(body)
    with pytest.raises(InvalidInput) as caught:
        TemplateRenderer(own.parents[2]).render("en", sample() | values)
    return caught.value


def test_a_missing_variable_is_named_with_file_and_line(own: Path) -> None:
    error = refused(own, "Hello\n\n{{ person.name }}, room {{ column.room }}\n", column={})
    assert error.where == "templates/message/en/body.txt line 3"
    assert "room" in error.message


def test_a_missing_variable_in_html_is_named_with_its_own_line(own: Path) -> None:
    page = '{% from "message/_layout.html" import page %}\n{% call page(language, "t", "o") %}\n<p>{{ persn.name }}</p>\n{% endcall %}\n'
    error = refused(own, page, "body.html")
    assert (error.where, error.message) == ("templates/message/en/body.html line 3", 'unknown variable "persn"; did you mean "person"?')


def test_a_mistake_in_a_template_is_named_with_file_and_line(own: Path) -> None:
    error = refused(own, "Hello\n{% if person.name %}\nthere\n")
    assert error.where is not None
    assert error.where.startswith("templates/message/en/body.txt line ")
    assert error.hint


@pytest.mark.parametrize("name", ["body.txt", "included.txt"])
def test_a_file_that_is_too_large_is_refused_and_named(own: Path, name: str) -> None:
    (own / "body.txt").write_text('{% include "message/en/included.txt" %}')
    error = refused(own, "{#" + "x" * LARGEST_TEMPLATE + "#}", name)
    assert str(error) == f"templates/message/en/{name} line 1: 262148 bytes is more than the limit of 262144 bytes"


def test_a_layout_that_is_not_there_is_named(own: Path) -> None:
    error = refused(own, '{% extends "message/nowhere.html" %}', "body.html")
    assert "message/nowhere.html" in error.message


@pytest.mark.parametrize("name", ["message/" + "x" * 5000 + ".txt", "x" * 300, "x\\0y"], ids=["path", "name", "NUL"])
@pytest.mark.parametrize("verb", ["include", "extends", "import"])
def test_a_name_that_no_file_can_have_is_one_that_does_not_exist(own: Path, verb: str, name: str) -> None:
    error = refused(own, f'Hello\n{{% {verb} "{name}"{" as it" * (verb == "import")} %}}\n')
    assert error.where == "templates/message/en/body.txt line 2"
    assert error.message.startswith('no template "')
    assert error.message.isprintable()
    assert len(error.message) < 120


@pytest.mark.parametrize(
    "body",
    [
        '{% extends "message/en/body.txt" %}',
        '{% extends "message/en/other.txt" %}',
        '{% include "message/en/body.txt" %}',
        '{% include "message/en/other.txt" %}',
        '{% from "message/en/body.txt" import it %}',
    ],
)
def test_a_template_that_leads_back_to_itself_is_told_in_plain_words(own: Path, body: str) -> None:
    (own / "other.txt").write_text(f"\n\n{body.replace('other', 'body')}")
    error = refused(own, f"Hello\n{body}\n")
    assert error.where in {"templates/message/en/body.txt line 2", "templates/message/en/other.txt line 3"}
    assert error.message == "the templates extend, include or call one another without an end"


def test_a_macro_that_calls_itself_is_told_likewise(own: Path) -> None:
    error = refused(own, "Hello\n{% macro again() %}\n{{ again() }}\n{% endmacro %}\n{{ again() }}\n")
    assert error.where == "templates/message/en/body.txt line 3"
    assert error.message == "the templates extend, include or call one another without an end"


def test_a_file_that_is_not_utf_8_is_named(own: Path) -> None:
    (own / "body.txt").write_bytes(b"Gr\xfc\xdfe")
    with pytest.raises(InvalidInput) as caught:
        TemplateRenderer(own.parents[2]).render("en", sample())
    assert "body.txt" in str(caught.value)


@pytest.mark.parametrize("subject", ["two\nlines", "{{ person.name }}\n{{ person.address }}", "", "  \n", "a{{ '\\u202e' }}b"])
def test_a_subject_is_one_line(own: Path, subject: str) -> None:
    assert refused(own, subject, "subject.txt").where == "templates/message/en/subject.txt"


@pytest.mark.parametrize(
    "attack",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ person.__class__ }}",
        "{{ date.__globals__ }}",
        "{{ self.__init__.__globals__ }}",
        "{{ ('' | attr('__class__')) }}",
        "{{ '{0.__class__}'.format(person) }}",
        "{{ person.columns.clear() }}",
        "{{ person.update({'address': 'mallory@example.test'}) }}",
        "{{ namespace(x=1) }}",
        "{{ cycler.__init__ }}",
        "{% include '/etc/passwd' %}",
        "{% include '../../../../etc/passwd' %}",
        "{% include 'message/../../distributor.toml' %}",
    ],
)
def test_a_template_cannot_leave_the_sandbox(own: Path, attack: str) -> None:
    (own.parents[2] / "distributor.toml").write_text("secret")
    assert refused(own, attack).where


@pytest.mark.parametrize(
    "bomb",
    [
        "{{ 'a' * 10**8 }}",
        "{{ 'a' * 100000000 }}",
        "{{ ['a'] * 100000000 }}",
        "{{ 9 ** 9 ** 9 }}",
        "{{ '%1000000000d' | format(1) }}",
        "{{ '%1000000000d' % 1 }}",
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% for a in 'x' * 1000 %}{% for b in 'x' * 1000 %}{{ 'y' * 1000 }}{% endfor %}{% endfor %}",
        "{{ ('y' * 200000) * 200000 }}",
        "{{ 'x' | center(1000000000) }}",
        "{{ lipsum(n=1000000) }}",
    ],
)
def test_a_bomb_is_refused_before_it_goes_off(own: Path, bomb: str) -> None:
    assert refused(own, bomb).where == "templates/message/en/body.txt line 1"


def test_a_message_has_a_largest_size(own: Path) -> None:
    (own / "body.txt").write_text("{{ column.text }}")
    most = TemplateRenderer(own.parents[2]).render("en", sample() | {"column": {"text": "x" * LARGEST_TEXT}})
    assert len(most.text) == LARGEST_TEXT
    assert "KiB" in refused(own, "{{ column.text }}", column={"text": "x" * (LARGEST_TEXT + 1)}).message


# --- doctor ----------------------------------------------------------------------------------------------------------


def test_a_checkup_renders_every_message(own: Path) -> None:
    assert [(r.level, r.message) for r in TemplateRenderer(None, LANGUAGES).check()] == [("ok", "messages in de, en, es, fr, it")]
    (own / "body.txt").write_text("{% if generation > 1 %}{{ persn }}{% endif %}")
    (fault,) = TemplateRenderer(own.parents[2]).check()
    assert (fault.level, fault.message) == (
        "error",
        'templates/message/en/body.txt line 1: unknown variable "persn"; did you mean "person"?',
    )


def test_a_checkup_lets_columns_be_what_the_roster_brings(own: Path) -> None:
    (own / "body.txt").write_text("{{ column.room }} {{ person.columns.floor }}")
    assert [r.level for r in TemplateRenderer(own.parents[2]).check()] == ["ok"]


def test_a_checkup_says_which_language_has_no_message() -> None:
    (diagnostic,) = TemplateRenderer(None, ("en", "pl", "de-AT")).check()
    assert (diagnostic.level, diagnostic.message) == ("warning", 'no message templates for "pl"')


def test_a_language_folder_that_is_no_language_is_left_alone(own: Path) -> None:
    for name in ("old drafts", "x", "backup~"):
        (own.parent / name).mkdir()
        (own.parent / name / "body.txt").write_text("{{ nothing }}")
    assert [r.level for r in TemplateRenderer(own.parents[2]).check()] == ["ok"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("{{ column.room }} {{ column['desk'] }} {% if column.floor is defined %}x{% endif %}", {"room", "desk", "floor"}),
        ("{{ person.columns.room }} {{ person['columns']['desk'] }} {{ person.name }}", {"room", "desk"}),
        ("{% for name in column %}{{ column[name] }} pin{% endfor %}", {"pin"}),
        ("{% set mine = column %}{{ mine.room }}", {"room"}),
        ("{{ column.get('room') }}", {"room"}),
        ("{{ column.room", {"room"}),
    ],
)
def test_the_columns_that_messages_name_are_known(tmp_path: Path, text: str, names: set[str]) -> None:
    """Those of a template that cannot be read so are at least among its words."""
    place = tmp_path / "templates/message/pt"
    place.mkdir(parents=True)
    (place / "body.txt").write_text(text, encoding="utf-8")
    found = TemplateRenderer(tmp_path).columns()
    assert names <= found
    assert "password" not in found


def test_the_packaged_messages_name_no_column() -> None:
    assert TemplateRenderer(None).columns() == frozenset()


def test_a_pipe_among_the_templates_is_not_waited_for(tmp_path: Path, own: Path) -> None:
    os.mkfifo(own / "body.txt")
    assert TemplateRenderer(tmp_path).columns() == frozenset()
