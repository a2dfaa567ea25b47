"""Finds the fonts of letters: DejaVu where it is installed, else those of every PDF reader, which have Western European letters only."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from fpdf import FPDF
from fpdf.fonts import TTFFont

SANS, MONO = "letter-sans", "letter-mono"
_FILES = {(SANS, ""): "DejaVuSans.ttf", (SANS, "B"): "DejaVuSans-Bold.ttf", (MONO, "B"): "DejaVuSansMono-Bold.ttf"}
_BUILT_IN_ENCODING = "cp1252"
_FROM_RIGHT = frozenset({"R", "AL", "AN"})  # bidirectional classes; such a name would be printed backwards


@dataclass(frozen=True, slots=True)
class Fonts:
    """The fonts that letters are printed with. `files`: by family and style; empty for the built-in ones."""

    files: Mapping[tuple[str, str], Path]
    characters: frozenset[int]  # code points that all styles of the text's font have

    @property
    def sans(self) -> str:
        """The family of the text."""
        return SANS if self.files else "helvetica"

    @property
    def mono(self) -> str:
        """The family of passwords."""
        return MONO if self.files else "courier"

    def can_print(self, character: str) -> bool:
        """Whether a character is printed right: it has a glyph, and neither joins its neighbours nor runs from right to left."""
        if unicodedata.bidirectional(character) in _FROM_RIGHT or unicodedata.category(character)[0] == "M":
            return False
        if self.files:
            return ord(character) in self.characters
        try:
            character.encode(_BUILT_IN_ENCODING)
        except UnicodeEncodeError:
            return False
        return True

    def add_to(self, pdf: FPDF) -> None:
        """Make the fonts known to a document."""
        pdf.core_fonts_encoding = _BUILT_IN_ENCODING
        for (family, style), path in self.files.items():
            pdf.add_font(family, style, path)


def find() -> Fonts:
    """DejaVu where all of its files are found, else the built-in fonts."""
    files = {key: path for key, name in _FILES.items() if (path := next(_named(name), None)) is not None}
    if len(files) < len(_FILES):
        return Fonts({}, frozenset())
    pdf = FPDF()
    fonts = Fonts(files, frozenset())
    fonts.add_to(pdf)
    shapes = [font for font in pdf.fonts.values() if isinstance(font, TTFFont) and font.fontkey.startswith(SANS)]
    found = Fonts(files, frozenset.intersection(*(frozenset(font.cmap) for font in shapes)))
    close(pdf)
    return found


def close(pdf: FPDF) -> None:
    """Close the files of a document's fonts, which it reads until it is written."""
    for font in pdf.fonts.values():
        if isinstance(font, TTFFont):
            font.ttfont.close()


def _named(name: str) -> Iterator[Path]:
    """Files of this name in the folders of fonts, by the conventions of freedesktop.org and macOS."""
    shared = os.environ.get("XDG_DATA_DIRS") or "/usr/local/share:/usr/share"
    own = os.environ.get("XDG_DATA_HOME") or str(Path("~/.local/share").expanduser())
    folders = [
        *(Path(folder) / "fonts" for folder in (own, *shared.split(":"))),
        Path("~/Library/Fonts").expanduser(),
        Path("/Library/Fonts"),
    ]
    for folder in folders:
        if folder.is_dir():
            yield from sorted(folder.rglob(name))
