"""Prints passwords as letters into one PDF (extra `letters`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distributor.errors import InvalidInput
from distributor.model.channels import Letter

if TYPE_CHECKING:
    from distributor.adapters.channels.letter.fonts import Fonts
    from distributor.adapters.channels.letter.layout import Document

_COLOUR = "#0f4c8a"
BUILT_IN = "the built-in fonts: names in Western European letters only"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the letters take from `[organisation]`."""

    organisation: str = ""
    colour: str = ""
    logo: Path | None = None


def open(settings: Settings) -> PdfPrinter:  # noqa: A001  every adapter has this name
    """The printer. Raises InvalidInput without the extra, or where the logo cannot be used."""
    try:
        from distributor.adapters.channels.letter import fonts, layout  # noqa: PLC0415  their libraries are an extra
    except ImportError as missing:
        message = f"letters need the package {missing.name}, which is not installed"
        raise InvalidInput(message, where="password.channel", hint="pip install 'distributor[letters]'") from None
    printer = PdfPrinter(settings, fonts.find(), layout.Document)
    printer.check_logo()
    return printer


class PdfPrinter:
    """Prints letters with the organisation's name, colour and logo."""

    def __init__(self, settings: Settings, fonts: Fonts, document: type[Document]) -> None:
        self._settings, self._fonts, self._new = settings, fonts, document
        self.every_script = bool(fonts.files)
        self.font = "DejaVu" if fonts.files else BUILT_IN

    def unprintable(self, letter: Letter) -> str:
        """The characters that cannot be printed right."""
        texts = (self._settings.organisation, *letter.address, letter.text, letter.spelling)
        return "".join(dict.fromkeys(c for text in texts for c in text if c != "\n" and not self._fonts.can_print(c)))

    def print(self, letters: Sequence[Letter], tell: Callable[[], object] = lambda: None) -> bytes:
        """The PDF."""
        document = self._document()
        for letter in letters:
            document.add(letter)
            tell()
        return document.bytes()

    def _document(self) -> Document:
        colour = (self._settings.colour or _COLOUR).lstrip("#")
        rgb = (int(colour[:2], 16), int(colour[2:4], 16), int(colour[4:], 16))
        return self._new(self._fonts, self._settings.organisation, rgb, self._settings.logo)

    def check_logo(self) -> None:
        """Raise InvalidInput where the logo cannot be read or drawn."""
        if self._settings.logo is None:
            return
        from fpdf import FPDF  # noqa: PLC0415  as above

        from distributor.adapters.channels.letter.layout import draw_logo  # noqa: PLC0415  as above

        pdf = FPDF()
        pdf.add_page()
        try:
            draw_logo(pdf, self._settings.logo)
        except Exception as error:  # noqa: BLE001  an image can fail in as many ways as there are formats
            reason = (error.strerror or "cannot be read").lower() if isinstance(error, OSError) and error.strerror else "not a usable image"
            hint = "save the logo as PNG, or remove the key"
            raise InvalidInput(f"{self._settings.logo}: {reason}", where="organisation.logo", hint=hint) from None
