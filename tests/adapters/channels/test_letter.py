"""Letters as they are printed: what stands where, what a scanner reads, which names a font cannot print."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from distributor.adapters.channels import letter as module
from distributor.adapters.channels.letter import fonts
from distributor.adapters.channels.letter.layout import ADDRESS_WIDTH, BOTTOM, FOLDS, LEFT
from distributor.errors import InvalidInput
from distributor.mail.template_samples import sample
from distributor.mail.templates import LETTER_FILES, TemplateRenderer
from distributor.model.channels import Letter
from distributor.model.secret import Secret
from tests.needs import require

LANGUAGES = ("de", "en", "es", "fr", "it")
SECRETS = (Secret("kqmxr-zzvwd-bcfgh-jkmnp-qrstu"), Secret("aaabb-ccddd-eeeff-ggghh-jjjkk"))
COLUMNS = {"department": "Finance", "street": "Main Street 5", "postcode": "12345", "city": "Exampleton"}
MILLIMETRE = 25.4 / 72  # of a point


def made(language: str = "en", passwords: int = 1, name: str = "Alice Example", secrets: tuple[Secret, ...] = SECRETS) -> Letter:
    values = sample("letter", passwords) | {"person": {"name": name, "columns": COLUMNS}, "column": COLUMNS}
    address, text, spelling = TemplateRenderer(None, kinds=("password_letter",)).render_files(language, LETTER_FILES, values)
    lines = tuple(line.strip() for line in address.splitlines() if line.strip())
    return Letter(lines, text, spelling, secrets[:passwords])


def printed(folder: Path, *letters: Letter, settings: module.Settings | None = None) -> Path:
    path = folder / "letters.pdf"
    path.write_bytes(module.open(settings or module.Settings("Example AG", "#0b5394")).print(letters, lambda: None))
    return path


def words(pdf: Path) -> list[tuple[int, float, float, str]]:
    """Each word with its page and upper left corner, in millimetres."""
    found = subprocess.run([require("pdftotext"), "-bbox", str(pdf), "-"], capture_output=True, text=True, check=True, timeout=60).stdout
    page, rows = 0, []
    for line in found.splitlines():
        page += "<page " in line
        if match := re.search(r'<word xMin="([\d.]+)" yMin="([\d.]+)".*?>(.*)</word>', line):
            rows.append((page, float(match[1]) * MILLIMETRE, float(match[2]) * MILLIMETRE, match[3]))
    return rows


@pytest.mark.parametrize("passwords", [1, 2])
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_letter_is_one_page_and_shows_no_password_in_the_window(tmp_path: Path, language: str, passwords: int) -> None:
    found = words(printed(tmp_path, made(language, passwords)))
    assert {page for page, *_ in found} == {1}
    in_window = [word for _, x, y, word in found if LEFT - 1 <= x <= LEFT + ADDRESS_WIDTH and 55 <= y <= 92]
    assert in_window == ["Example", "AG", "Alice", "Example", "Finance", "Main", "Street", "5", "12345", "Exampleton"]
    secret = [y for _, _, y, word in found if word in {one.reveal() for one in SECRETS}]
    assert len(secret) == passwords
    assert all(FOLDS[0] < y < FOLDS[1] for y in secret)
    assert max(y for _, _, y, _ in found) < BOTTOM


def test_each_character_is_spelled(tmp_path: Path) -> None:
    text = " ".join(word for *_, word in words(printed(tmp_path, made())))
    assert "k Kilo q Quebec m Mike x X-ray r Romeo" in text


def test_capitals_and_digits_are_told_apart(tmp_path: Path) -> None:
    text = " ".join(word for *_, word in words(printed(tmp_path, made(secrets=(Secret("Ab2"),)))))
    assert "A capital Alfa b Bravo 2" in text


def test_a_long_password_is_broken_after_a_hyphen_only(tmp_path: Path) -> None:
    secret = "-".join(["abcdefghijk"] * 5)
    found = [
        word for *_, word in words(printed(tmp_path, made(secrets=(Secret(secret),)))) if "abcdefghijk-" in word or word == "abcdefghijk"
    ]
    assert "".join(word for word in found if "-" in word).rstrip("-") in secret
    assert sum(word.count("abcdefghijk-") for word in found) == 4


def test_many_passwords_go_on_with_another_page(tmp_path: Path) -> None:
    text = "\n\n".join(["Heading", *(f"[[{number}]] Number {number}" for number in range(1, 7))])
    found = words(printed(tmp_path, Letter(("Alice",), text, "a Alfa", SECRETS * 3)))
    assert {page for page, *_ in found} == {1, 2}
    assert sum(word in {one.reveal() for one in SECRETS} for *_, word in found) == 6


def test_a_scanner_reads_the_password_and_nothing_else(tmp_path: Path) -> None:
    scanner, painter = require("zbarimg"), require("pdftoppm")
    pdf = printed(tmp_path, made("de", 2))
    subprocess.run([painter, "-r", "150", "-png", str(pdf), str(tmp_path / "page")], check=True, timeout=60)
    (page,) = tmp_path.glob("page*.png")
    scanned = subprocess.run([scanner, "--raw", "-q", str(page)], capture_output=True, text=True, check=True, timeout=60).stdout.split()
    assert sorted(scanned) == sorted(one.reveal() for one in SECRETS)


def test_colour_and_logo_are_the_organisation_s(tmp_path: Path) -> None:
    from PIL import Image  # noqa: PLC0415  it comes with the extra

    logo = tmp_path / "logo.png"
    Image.new("RGB", (200, 100), (200, 30, 40)).save(logo)
    pdf = printed(tmp_path, made(), settings=module.Settings("Example AG", "#00aa00", logo))
    subprocess.run([require("pdftoppm"), "-r", "40", "-png", str(pdf), str(tmp_path / "page")], check=True, timeout=60)
    (page,) = tmp_path.glob("page*.png")
    colours = {colour for _, colour in Image.open(page).convert("RGB").getcolors(maxcolors=1_000_000) or []}
    assert any(red > 180 and green < 60 and blue < 70 for red, green, blue in colours)
    assert any(red < 60 and green > 140 and blue < 60 for red, green, blue in colours)


def test_a_logo_that_is_no_image_is_named(tmp_path: Path) -> None:
    logo = tmp_path / "logo.png"
    logo.write_text("not an image", encoding="utf-8")
    with pytest.raises(InvalidInput, match="not a usable image") as refused:
        module.open(module.Settings("Example AG", "", logo))
    assert refused.value.where == "organisation.logo"


# --- fonts -------------------------------------------------------------------------------------------------------------

NAMES = ("Żółć Łukasz", "Ελένη", "Иван", "José Ñandú", "Zoë \u201eZ\u201c O\u2019Neill")


@pytest.mark.parametrize("name", NAMES)
def test_european_names_are_printed_where_dejavu_is_installed(tmp_path: Path, name: str) -> None:
    printer = module.open(module.Settings("Example AG"))
    if not printer.every_script:
        require("fonts-dejavu-core")
    letter = made(name=name)
    assert printer.unprintable(letter) == ""
    assert name in " ".join(word for *_, word in words(printed(tmp_path, letter)))


@pytest.mark.parametrize(("name", "missing"), [("محمد", "محد"), ("王伟", "王伟"), ("x\u0323y", "\u0323")])
def test_names_that_would_be_printed_wrong_are_refused(name: str, missing: str) -> None:
    assert module.open(module.Settings("Example AG")).unprintable(made(name=name)) == missing


@pytest.mark.parametrize(
    ("name", "missing"), [("José Ñandú", ""), ("Zoë \u201eZ\u201c O\u2019Neill", ""), ("Żółć Łukasz", "ŻłćŁ"), ("Иван", "Иван")]
)
def test_without_dejavu_the_built_in_fonts_print_western_names_and_refuse_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, missing: str
) -> None:
    monkeypatch.setattr(fonts, "_named", lambda _: iter(()))
    printer = module.open(module.Settings("Example AG"))
    assert not printer.every_script
    letter = made("de", name=name)
    assert printer.unprintable(letter) == missing
    if not missing:
        assert name in " ".join(word for *_, word in words(printed(tmp_path, letter)))


# --- the extra ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", ["fpdf", "segno"])
def test_a_missing_extra_is_said_with_what_to_install(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    for name in ("fonts", "layout"):
        monkeypatch.delitem(sys.modules, f"distributor.adapters.channels.letter.{name}", raising=False)
        monkeypatch.delattr(module, name, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InvalidInput, match=f"letters need the package {package}") as refused:
        module.open(module.Settings("Example AG"))
    assert refused.value.hint == "pip install 'distributor[letters]'"
