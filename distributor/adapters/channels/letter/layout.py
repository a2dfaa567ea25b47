"""Lays out letters on A4 for window envelopes (DIN 5008 form B, for DL and C6/5 by ISO 269). Passwords stand below the first fold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import segno
from fpdf import FPDF

from distributor.adapters.channels.letter.fonts import Fonts, close
from distributor.model.channels import Letter

# millimetres, from the upper left corner of the page
LEFT, RIGHT = 25.0, 190.0
TOP_OF_BODY = 97.5
BOTTOM = 286.0
FOLDS = (105.0, 210.0)
PUNCH = 148.5
SENDER_LINE, ADDRESS, ADDRESS_LINE = 57.0, 63.0, 4.6
MOST_ADDRESS_LINES = 6
ADDRESS_WIDTH = 80.0  # of the window's 85
LOGO = (50.0, 22.0)  # at most, width and height
LINE, HEADING_LINE, SENDER_LINE_HEIGHT = 4.6, 6.6, 6.0  # of the body, of headings, of the organisation's name
PARAGRAPH = 2.4
CODE = 29.0  # width of the QR code
QUIET = 4  # modules around a QR code, ISO/IEC 18004
PADDING = 3.5
SECRET_LINE, SPELLING_LINE = 8.5, 3.7
# points
BODY, SMALL, HEADING, SENDER, ADDRESS_SIZE = 9.5, 7.0, 14.0, 13.0, 10.5
LABEL, SECRET, SPELLING = 8.0, 18.0, 7.5

Colour = tuple[int, int, int]
INK: Colour = (16, 32, 47)
PAPER: Colour = (243, 246, 250)
GREY: Colour = (90, 100, 112)
_MARK = re.compile(r"\[\[(\d+)\]\] *(.*)", re.DOTALL)
_STEP = re.compile(r"(\d+\.) +(.*)", re.DOTALL)


class Document:
    """A PDF of letters. `sender`: the organisation's name."""

    def __init__(self, fonts: Fonts, sender: str, colour: Colour, logo: Path | None) -> None:
        self._fonts, self._sender, self._colour, self._logo = fonts, sender, colour, logo
        self._widths: dict[tuple[str, str, str], float] = {}  # of words, by family and style, at one point
        self._wrapped: dict[tuple[str, str, float, float], list[str]] = {}
        self._y = 0.0
        self._pdf = FPDF(format="A4")
        self._pdf.set_auto_page_break(auto=False)
        fonts.add_to(self._pdf)

    def add(self, letter: Letter) -> None:
        """Add a letter: one page, more where its text is long."""
        self._pdf.add_page()
        heading, *paragraphs = [part.strip() for part in re.split(r"\n\s*\n", letter.text) if part.strip()]
        date = _line(paragraphs.pop(0)[2:]) if paragraphs and paragraphs[0].startswith(">>") else ""
        self._head(letter.address, date)
        self._y = TOP_OF_BODY
        self._font(HEADING, self._colour, "B")
        self._write(self._lines(heading, RIGHT - LEFT), HEADING_LINE)
        self._y = max(self._y, FOLDS[0]) + 2 * PARAGRAPH
        for paragraph in paragraphs:
            if mark := _MARK.fullmatch(paragraph):
                self._password(letter, int(mark[1]) - 1, _line(mark[2]))
            else:
                self._paragraph(paragraph)

    def bytes(self) -> bytes:
        """The finished PDF."""
        try:
            return bytes(self._pdf.output())
        finally:
            close(self._pdf)

    # --- lines of text -----------------------------------------------------------------------------------------------

    def _font(self, size: float, colour: Colour = INK, style: str = "", family: str = "") -> None:
        self._pdf.set_font(family or self._fonts.sans, style, size)
        self._pdf.set_text_color(*colour)

    def _width(self, text: str) -> float:
        """The width of a line in the current font. Each word is measured once: fpdf2 adds up its characters anew every time."""
        pdf, words = self._pdf, text.split(" ")
        return sum(self._word_width(word) for word in (*words, *" " * (len(words) - 1))) * pdf.font_size_pt

    def _word_width(self, word: str) -> float:
        key = (self._pdf.font_family, self._pdf.font_style, word)
        if key not in self._widths:
            self._widths[key] = self._pdf.get_string_width(word) / self._pdf.font_size_pt
        return self._widths[key]

    def _lines(self, text: str, width: float) -> list[str]:
        """The text in lines of at most this width, in the current font; most texts are in every letter, so the lines are kept."""
        key = (text, self._pdf.font_style, self._pdf.font_size_pt, width)
        if key not in self._wrapped:
            self._wrapped[key] = self._wrap(text, width)
        return self._wrapped[key]

    def _wrap(self, text: str, width: float) -> list[str]:
        """The text in lines; a word that is longer than a line is cut."""
        lines = [""]
        for word in _line(text).split(" "):
            rest = word
            while self._width(rest) > width:
                fits = next(n for n in range(len(rest) - 1, 0, -1) if n == 1 or self._pdf.get_string_width(rest[:n]) <= width)
                lines += [rest[:fits], ""]
                rest = rest[fits:]
            joined = f"{lines[-1]} {rest}".strip()
            if self._width(joined) <= width:
                lines[-1] = joined
            else:
                lines.append(rest)
        return [line for line in lines if line]

    def _write(self, lines: Iterable[str], height: float, left: float = LEFT) -> None:
        """Lines in the current font, from the left."""
        for line in lines:
            self._put(left, self._y, line)
            self._y += height

    def _put(self, x: float, y: float, text: str) -> None:
        """One line in the current font; `y` is its upper edge."""
        self._pdf.text(x, y + self._pdf.font_size * 0.95, text)

    # --- head --------------------------------------------------------------------------------------------------------

    def _head(self, address: tuple[str, ...], date: str) -> None:
        pdf = self._pdf
        pdf.set_draw_color(*GREY)
        pdf.set_line_width(0.1)
        for y in (*FOLDS, PUNCH):
            pdf.line(4, y, 9 if y != PUNCH else 11, y)
        if self._logo is not None:
            draw_logo(pdf, self._logo)
        self._y = 18.0
        self._font(SENDER, self._colour, "B")
        self._write(self._lines(self._sender, RIGHT - LEFT - LOGO[0] - 6)[:3], SENDER_LINE_HEIGHT)
        self._font(SMALL, GREY)
        self._put(LEFT, SENDER_LINE, next(iter(self._lines(self._sender, ADDRESS_WIDTH)), ""))
        pdf.line(LEFT, SENDER_LINE + 3.6, LEFT + ADDRESS_WIDTH, SENDER_LINE + 3.6)
        self._font(BODY, GREY)
        self._put(RIGHT - self._width(date), ADDRESS, date)
        size = ADDRESS_SIZE
        while len(lines := self._address(address, size)) > MOST_ADDRESS_LINES and size > SMALL:
            size -= 0.5
        for number, line in enumerate(lines[:MOST_ADDRESS_LINES]):
            self._put(LEFT, ADDRESS + number * ADDRESS_LINE, line)

    def _address(self, address: tuple[str, ...], size: float) -> list[str]:
        self._font(size)
        return [line for part in address for line in self._lines(part, ADDRESS_WIDTH)]

    # --- body --------------------------------------------------------------------------------------------------------

    def _paragraph(self, text: str) -> None:
        """A paragraph, or a list whose lines begin with numbers."""
        for line in re.split(r"\n(?=\d+\. )", text):
            step = _STEP.fullmatch(line)
            left, words = (LEFT + 6, step[2]) if step else (LEFT, line)
            self._font(BODY)
            lines = self._lines(words, RIGHT - left)
            self._room(LINE * len(lines))
            self._font(BODY)
            if step:
                self._put(LEFT, self._y, step[1])
            self._write(lines, LINE, left)
        self._y += PARAGRAPH

    def _room(self, height: float) -> None:
        """Go on with a new page where this height is not left."""
        if self._y + height > BOTTOM:
            self._pdf.add_page()
            self._y = 20.0

    def _password(self, letter: Letter, number: int, label: str) -> None:
        """The box with a password in large type, how it is spelled, and its QR code."""
        pdf, secret, inner = self._pdf, letter.passwords[number].reveal(), RIGHT - LEFT - 2 * PADDING
        spelled = list(_spelled(secret, _alphabet(letter.spelling)))
        lines = list(self._secret_lines(secret, inner - CODE - PADDING))
        self._font(LABEL, INK, "B")
        labels = self._lines(label, inner)
        words = SECRET_LINE * len(lines) + 1 + SPELLING_LINE * len(spelled)
        height = 2 * PADDING + LINE * len(labels) + max(words, CODE)
        self._room(height)
        top = self._y
        pdf.set_fill_color(*PAPER)
        pdf.rect(LEFT, top, RIGHT - LEFT, height, style="F", round_corners=True, corner_radius=2)
        self._y = top + PADDING
        self._font(LABEL, INK, "B")
        self._write(labels, LINE, LEFT + PADDING)
        self._code(secret, RIGHT - CODE - PADDING, top + height - CODE - PADDING)
        self._font(SECRET, INK, "B", self._fonts.mono)
        for line in lines:
            self._put(LEFT + PADDING, self._y + 0.5, line)
            self._y += SECRET_LINE
        self._y += 1
        for group, named in spelled:
            self._font(SPELLING, INK, "B", self._fonts.mono)
            self._put(LEFT + PADDING, self._y, group)
            self._font(SPELLING)
            self._put(LEFT + PADDING + self._group_width(secret), self._y, named)
            self._y += SPELLING_LINE
        self._y = top + height + PARAGRAPH

    def _group_width(self, secret: str) -> float:
        """The width of the column with the groups."""
        return max(map(len, secret.split("-"))) * SPELLING * 0.25 + 3

    def _secret_lines(self, secret: str, width: float) -> Iterator[str]:
        """The password, broken after hyphens only where it is too long for a line."""
        self._font(SECRET, INK, "B", self._fonts.mono)
        line = ""
        for group in re.findall(r"[^-]+-?", secret):
            if line and self._pdf.get_string_width(line + group) > width:
                yield line
                line = ""
            line += group
        yield line

    def _code(self, secret: str, x: float, y: float) -> None:
        """The QR code of the password alone, as runs of dark modules."""
        rows = [bytes(row) for row in segno.make_qr(secret, error="m").matrix]
        module = CODE / (len(rows) + 2 * QUIET)
        self._pdf.set_fill_color(255, 255, 255)
        self._pdf.rect(x, y, CODE, CODE, style="F")
        self._pdf.set_fill_color(0, 0, 0)
        for number, row in enumerate(rows):
            for run in re.finditer(rb"\x01+", row):
                left, top = x + (QUIET + run.start()) * module, y + (QUIET + number) * module
                self._pdf.rect(left, top, len(run[0]) * module, module, style="F")


def draw_logo(pdf: FPDF, path: Path) -> None:
    """Draw a logo in the upper right corner. Raises whatever its format makes fpdf2 and its libraries raise."""
    pdf.image(path, x=RIGHT - LOGO[0], y=13, w=LOGO[0], h=LOGO[1], keep_aspect_ratio=True)


def _line(text: str) -> str:
    return " ".join(text.split())


def _alphabet(spelling: str) -> Mapping[str, str]:
    """The word for each character; `capital` is the word before those of capitals."""
    pairs = (line.split(None, 1) for line in spelling.splitlines() if len(line.split(None, 1)) > 1)
    return {character: word.strip() for character, word in pairs}


def _spelled(secret: str, words: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Each group and how it is read out."""
    for group in secret.split("-"):
        yield group, "  ".join(_word(character, words) for character in group)


def _word(character: str, words: Mapping[str, str]) -> str:
    if character.isupper():
        return f"{character} {words.get('capital', '')} {words.get(character.lower(), character)}"
    return f"{character} {words[character]}" if character in words else character
