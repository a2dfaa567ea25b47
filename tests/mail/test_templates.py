"""Message templates: what a message says in every language, its colours, and templates of one's own."""

from __future__ import annotations

import pickle
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

from distributor.mail import templates as module
from distributor.mail.notices import phrase_key
from distributor.mail.signed import named_deliveries
from distributor.mail.template_samples import sample
from distributor.mail.templates import TemplateRenderer, packaged
from distributor.model.people import Helpdesk

LANGUAGES = ("de", "en", "es", "fr", "it")

CHANNELS = ("reveal", "letter", "mail", "self")
VARIANTS = [(language, channel, generation) for language in LANGUAGES for channel in CHANNELS for generation in (1, 2)]


class Page(HTMLParser):
    """The words of a page, its tags, and every pair of colours that meet on it."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self._hidden = 0
        self._open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        self._hidden += tag in {"style", "title"}
        if tag not in {"meta", "br"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes another"
        self._hidden -= tag in {"style", "title"}

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words += WORD.findall(data.lower())


WORD = re.compile(r"[\w@.:/=+-]*\w")


def words(text: str) -> list[str]:
    """Letters and digits only: a list's numbers, quotation marks around labels and capitals of headings are typography."""
    return WORD.findall(re.sub(r"(?m)^(\d+\.|-) ", "", text).lower())


@pytest.mark.parametrize(("language", "channel", "generation"), VARIANTS)
def test_text_and_html_say_the_same(language: str, channel: str, generation: int) -> None:
    wording = TemplateRenderer(None).render(language, sample(channel, generation))
    assert words(wording.text) == Page(wording.html).words
    assert len(words(wording.text)) > 300


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_message_promises_only_what_its_certificate_is_for(language: str) -> None:
    messages = [TemplateRenderer(None).render(language, sample(use=use)) for use in ("", "signing", "encryption")]
    assert all(words(wording.text) == Page(wording.html).words for wording in messages)
    assert len({wording.text for wording in messages}) == len({wording.html for wording in messages}) == len(messages)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_has_what_a_reader_needs(language: str) -> None:
    wording = TemplateRenderer(None).render(language, sample())
    for needed in (
        *(
            "Outlook",
            "Apple",
            "iPhone",
            "iPad",
            "Android",
            "S/MIME",
            "Wi-Fi" if language != "de" else "WLAN",
            "Alice Example SMIME 2026 4f2a90c1.pfx",
        ),
        *("Install Certificate", "Enter Password", "Certificate Installed", "VPN & app user certificate", "User certificate installed"),
        *("Type the password to extract the certificates", "Sign and Encrypt", "xxxxx-xxxxx-xxxxx-xxxxx-xxxxx", "alice@example.org"),
        *("certificates@example.org", "4f2a90c1", "CN=Example Mail CA", "16", "+49 30 1234567", "2028"),
    ):
        assert needed in " ".join(wording.text.replace("\u00a0", " ").split()), needed
        assert needed.replace("&", "&amp;") in wording.html.replace("\u00a0", " "), needed


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_message_says_how_to_ask_for_another_copy_in_words_that_are_understood(language: str) -> None:
    known = (packaged() / "request" / language / "phrases.txt").read_text(encoding="utf-8").splitlines()
    first, *_ = known
    assert len({phrase_key(phrase) for phrase in known}) == len(known)
    quoted = re.compile(f"[„“«]\\s?{first}\\s?[“”»]")
    with_it, without = (TemplateRenderer(None).render(language, sample() | {"request_by_mail": on}) for on in (True, False))
    assert quoted.search(" ".join(with_it.text.split()))
    assert quoted.search(with_it.html)
    assert not quoted.search(without.text + without.html)
    assert words(without.text) == Page(without.html).words


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_message_invites_to_confirm_by_a_signed_reply_only_where_it_is_read(language: str) -> None:
    """One tap makes the reply, and the ledger's own search finds the delivery in it."""
    values = sample() | {"confirmation": "certificates+x@example.org"}
    with_it, without = (TemplateRenderer(None).render(language, values | {"confirmation": to}) for to in (values["confirmation"], ""))
    reference = str(values["reference"])
    assert re.search(rf"(?m)^\w+\s?: {reference}$", with_it.text)
    assert named_deliveries(b"Content-Type: text/html; charset=utf-8\r\n\r\n" + with_it.html.encode()) == (reference,)
    assert words(with_it.text) == Page(with_it.html).words
    (link,) = [given["href"] for tag, given in Page(with_it.html).tags if tag == "a"]
    place, _, query = link.partition("?")
    assert place == "mailto:certificates%2Bx@example.org"
    subject, body = (unquote(part.partition("=")[2]) for part in query.split("&"))
    assert named_deliveries(b"Content-Type: text/plain; charset=utf-8\r\n\r\n" + body.encode()) == (reference,)
    assert phrase_key(subject) not in (packaged() / "request" / language / "phrases.txt").read_text(encoding="utf-8").lower()
    assert reference not in without.text + without.html
    assert "mailto:" not in without.html
    assert words(without.text) == Page(without.html).words


@pytest.mark.parametrize("language", LANGUAGES)
def test_each_channel_of_the_password_has_its_own_text_and_a_later_message_says_so(language: str) -> None:
    messages = {TemplateRenderer(None).render(language, sample(channel, generation)).text for channel in CHANNELS for generation in (1, 2)}
    assert len(messages) == 2 * len(CHANNELS)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_message_without_a_name_still_greets(language: str) -> None:
    values = sample() | {"person": {"name": "", "address": "alice@example.org", "columns": {}}}
    wording = TemplateRenderer(None).render(language, values)
    greeting = wording.text.split("\n\n")[2].strip()
    assert re.fullmatch(r"[\w ]+[,:]", greeting)


@pytest.mark.parametrize("language", LANGUAGES)
def test_nothing_is_fetched_linked_or_run(language: str) -> None:
    wording = TemplateRenderer(None).render(language, sample())
    assert not re.search(r"https?:|//|url\(|@import|src=|javascript:", wording.html + wording.text)
    assert all(given["href"].startswith("mailto:") for tag, given in Page(wording.html).tags if tag == "a")
    assert not {tag for tag, _ in Page(wording.html).tags} & {"img", "script", "form", "link", "iframe", "input", "button", "object"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_lines_of_text_fit_a_narrow_window(language: str) -> None:
    wording = TemplateRenderer(None).render(language, sample())
    assert max(len(line) for line in wording.text.splitlines()) <= 76
    assert len(wording.subject) < 80


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_screen_reader_finds_its_way(language: str) -> None:
    page = Page(TemplateRenderer(None).render(language, sample("reveal", 2)).html)
    tags = dict(page.tags)
    assert tags["html"]["lang"] == language
    headings = [tag for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert headings == ["h1"] + ["h2"] * 6
    assert all(attributes.get("role") == "presentation" for tag, attributes in page.tags if tag == "table")
    assert all("viewport" != a.get("name") or "user-scalable" not in a["content"] for tag, a in page.tags if tag == "meta")  # noqa: SIM300


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_smaller_than_16_pixels(language: str) -> None:
    html = TemplateRenderer(None).render(language, sample()).html
    sizes = [int(size) for size in re.findall(r"font-size:(\d+)px", html)]
    assert min(sizes) >= 16


# --- colours ---------------------------------------------------------------------------------------------------------


def luminance(colour: str) -> float:
    """WCAG 2.2 relative luminance of #rrggbb."""
    channels = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, two: str) -> float:
    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def dark(html: str) -> dict[str, dict[str, str]]:
    """What the style sheet says for dark mode: class -> property -> colour."""
    rules = html.split("prefers-color-scheme: dark", 1)[1].split("</style>", maxsplit=1)[0]
    found: dict[str, dict[str, str]] = {}
    for name, body in re.findall(r"\.(\w+) \{([^}]*)\}", rules):
        found[name] = dict(re.findall(r"([a-z-]*color): (#[0-9a-f]{6})", body))
    return found


class Colours(HTMLParser):
    """Every colour of text with the colour behind it, as a mail program without (`light`) or with dark mode shows it."""

    def __init__(self, html: str, *, night: bool) -> None:
        super().__init__()
        self._night = dark(html) if night else {}
        self._stack: list[tuple[str, str]] = [("#000000", "#ffffff")]
        self._skip = 0
        self.pairs: set[tuple[str, str]] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._skip += tag in {"style", "title"}
        if tag == "meta":
            return
        given = dict(attrs)
        declared = dict(re.findall(r"(?:^|;)(color|background-color):(#[0-9a-f]{6})", given.get("style") or ""))
        for name in (given.get("class") or "").split():
            declared |= self._night.get(name, {})
        colour, behind = self._stack[-1]
        self._stack.append((declared.get("color", colour), declared.get("background-color", behind)))

    def handle_endtag(self, tag: str) -> None:
        self._skip -= tag in {"style", "title"}
        self._stack.pop()

    def handle_data(self, data: str) -> None:
        if data.strip() and not self._skip:
            self.pairs.add(self._stack[-1])


@pytest.mark.parametrize("night", [False, True], ids=["light", "dark"])
def test_every_text_stands_out_from_what_is_behind_it(*, night: bool) -> None:
    pairs = Colours(TemplateRenderer(None).render("en", sample("reveal", 2)).html, night=night).pairs
    assert len(pairs) >= 8
    assert {pair: contrast(*pair) for pair in pairs if contrast(*pair) < 4.5} == {}
    assert all((luminance(behind) < 0.1) == night for _, behind in pairs if behind != "#0f4c8a")


# --- languages and overrides -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "organisation", "found"),
    [
        ("de-AT", ("en",), "de"),
        ("DE_ch", ("en",), "de"),
        ("", ("fr", "en"), "fr"),
        ("pt-BR", ("it", "en"), "it"),
        ("pt", ("nl",), "en"),
        ("../../etc", ("en",), "en"),
        ("fr-CA", ("en",), "fr"),
    ],
)
def test_the_nearest_language_is_used(wanted: str, organisation: tuple[str, ...], found: str) -> None:
    assert found == TemplateRenderer(None, organisation).render(wanted, sample()).language


def test_a_date_is_written_as_the_language_writes_it() -> None:
    dates = {tag: module._date(sample()["certificate"]["not_after"], tag) for tag in LANGUAGES}  # type: ignore[index]  # noqa: SLF001
    assert dates == {
        "de": "1. November 2028",
        "en": "1 November 2028",
        "es": "1 de noviembre de 2028",
        "fr": "1er novembre 2028",
        "it": "1 novembre 2028",
    }


def test_the_workspace_overrides_file_by_file(own: Path) -> None:
    (own / "subject.txt").write_text("Ours, for {{ column.room }}\n")
    wording = TemplateRenderer(own.parents[2]).render("en", sample() | {"column": {"room": "B 12"}})
    assert wording.subject == "Ours, for B 12"
    assert wording.text == TemplateRenderer(None).render("en", sample()).text


def test_the_workspace_brings_a_language_of_its_own(own: Path) -> None:
    pt = own.parent / "pt"
    pt.mkdir()
    for name in module.FILES:
        (pt / name).write_text("Olá, {{ person.name }}")
    assert TemplateRenderer(own.parents[2]).render("pt-BR", sample()).text == "Olá, Alice Example"


def test_a_narrower_language_takes_what_it_lacks_from_the_wider_one(own: Path) -> None:
    at = own.parent / "de-AT"
    at.mkdir()
    (at / "subject.txt").write_text("Servus")
    wording = TemplateRenderer(own.parents[2]).render("de-at", sample())
    assert (wording.language, wording.subject) == ("de-AT", "Servus")
    assert "Guten Tag" in wording.text


def test_the_shared_paper_may_be_replaced(own: Path) -> None:
    paper = (module.packaged() / "message" / "_layout.html").read_text().replace("#0f4c8a", "#123456")
    (own.parent / "_layout.html").write_text(paper)
    assert "#123456" in TemplateRenderer(own.parents[2]).render("fr", sample()).html


BLOCKS = ("greeting", "introduction", "attachment", "replaces", "before", "password", "shape", "several", "iphone", "android", "smime")
BLOCKS += ("wrong_password", "help", "genuine", "footer")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ["body.txt", "body.html"])
def test_any_one_block_may_be_replaced_without_a_copy_of_the_file(tmp_path: Path, language: str, name: str) -> None:
    for block in BLOCKS:
        own = tmp_path / block / "templates" / "message" / language
        own.mkdir(parents=True)
        (own / name).write_text(f'{{% extends "packaged/message/{language}/{name}" %}}{{% block {block} %}}Ours.{{% endblock %}}')
        ours = TemplateRenderer(tmp_path / block).render(language, sample("reveal", 2))
        theirs = TemplateRenderer(None).render(language, sample("reveal", 2))
        got, packaged = (ours.text, theirs.text) if name == "body.txt" else (ours.html, theirs.html)
        assert got.count("Ours.") == 1, block
        assert len(got) < len(packaged)
        start, end = got.split("Ours.")
        assert packaged.startswith(start.rstrip())
        assert packaged.rstrip().endswith(end.strip())


@pytest.mark.parametrize("language", LANGUAGES)
def test_without_a_helpdesk_nobody_is_sent_to_a_number(language: str) -> None:
    plain = TemplateRenderer(None).render(language, sample() | {"helpdesk": Helpdesk(), "fetch_by": None})
    assert not re.search(r"\(\s*\)|\+49| ,", plain.text)
    assert "2026" in plain.text  # in the attachment's name and the certificate's dates
    assert "16" not in plain.text
    with_page = TemplateRenderer(None).render(language, sample() | {"helpdesk": Helpdesk(url="help.example.org/smime")})
    assert "help.example.org/smime" in with_page.text
    assert "help.example.org/smime" in with_page.html


def test_html_escapes_what_people_are_called_and_text_does_not() -> None:
    name = '<script>alert(1)</script> & "Söhne" {{ 7*7 }}'
    wording = TemplateRenderer(None).render("en", sample() | {"person": {"name": name, "address": "a@example.org", "columns": {}}})
    assert name in wording.text
    assert "<script>" not in wording.html
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#34;Söhne&#34; {{ 7*7 }}" in wording.html


def test_templates_are_sent_to_another_process(own: Path) -> None:
    there = pickle.loads(pickle.dumps(TemplateRenderer(own.parents[2], ("de",))))  # noqa: S301  our own bytes
    assert there.render("", sample()).language == "de"


# --- the message with a password ---------------------------------------------------------------------------------------


PASSWORD_VARIANTS = [(language, generation) for language in LANGUAGES for generation in (1, 2)]  # to another mailbox, to the manager


@pytest.mark.parametrize(("language", "generation"), PASSWORD_VARIANTS)
def test_text_and_html_of_a_password_s_message_say_the_same_and_no_more_than_they_must(language: str, generation: int) -> None:
    wording = TemplateRenderer(None, kinds=("password",)).render(language, sample("mail", generation))
    assert words(wording.text) == Page(wording.html).words
    assert wording.language == language
    for needed in ("abcde-fghjk-mnpqr-stuvw-xyzab", "4711", "2028", "Alice Example"):
        assert needed in wording.text
    assert "abcde" not in wording.subject
    assert not re.search(r"@(?!media)|4f2a90c1|\.pfx|https?:|//|url\(|src=|href=", wording.text + wording.html)


@pytest.mark.parametrize(("language", "generation"), PASSWORD_VARIANTS)
def test_the_message_and_the_message_with_its_password_have_the_same_number(language: str, generation: int) -> None:
    values = sample("mail", generation)
    assert "4711" in TemplateRenderer(None).render(language, values).text
    assert "4711" in TemplateRenderer(None, kinds=("password",)).render(language, values).subject


@pytest.mark.parametrize("language", LANGUAGES)
def test_only_a_manager_is_told_to_give_the_password_away(language: str) -> None:
    own, manager = (TemplateRenderer(None, kinds=("password",)).render(language, sample("mail", generation)) for generation in (1, 2))
    assert words(own.text).count("alice") == 1
    assert words(manager.text).count("alice") == 5


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_password_s_message_without_a_name_still_reads(language: str) -> None:
    for generation in (1, 2):
        values = sample("mail", generation) | {"person": {"name": "", "columns": {}}}
        wording = TemplateRenderer(None, kinds=("password",)).render(language, values)
        assert words(wording.text) == Page(wording.html).words
        assert not re.search(r"\s[,.;]", wording.text)


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_portal_is_named_where_there_is_one(language: str) -> None:
    here, nowhere = (TemplateRenderer(None).render(language, sample("reveal") | {"portal": portal}) for portal in ("certs.example.org", ""))
    assert "certs.example.org" in here.text
    assert words(here.text) == Page(here.html).words
    assert "certs.example.org" not in nowhere.text
