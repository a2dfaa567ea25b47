"""Draws README's session as docs/session.svg: `python -m tests.session_picture`. The session itself is run by tests/test_readme.py."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "session.svg"
LINE, LEFT, TOP, CHARACTER = 20, 20, 64, 8.4  # pixels
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def session() -> list[str]:
    """The lines of the first console block of README."""
    found = re.search(r"```console\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return found[1].rstrip("\n").split("\n")


def draw(lines: list[str]) -> str:
    """The picture of a terminal with these lines. It loads nothing and has a description for screen readers."""
    width = int(2 * LEFT + CHARACTER * max(map(len, lines)))
    height = TOP + LINE * len(lines)
    rows = "\n".join(
        f'<text x="{LEFT}" y="{TOP + LINE * number}" fill="{_colour(line)}"{_weight(line)} xml:space="preserve">{escape(line)}</text>'
        for number, line in enumerate(lines)
        if line
    )
    buttons = enumerate(("#ff5f57", "#febc2e", "#28c840"))
    dots = "".join(f'<circle cx="{24 + 20 * number}" cy="22" r="6" fill="{colour}"/>' for number, colour in buttons)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'aria-labelledby="title">\n<title id="title">A terminal: distributor init, plan, send, status and password reveal</title>\n'
        f'<rect width="{width}" height="{height}" rx="10" fill="#0d1117"/>\n{dots}\n'
        f'<g font-family="{FONT}" font-size="14">\n{rows}\n</g>\n</svg>\n'
    )


def _colour(line: str) -> str:
    return "#7ee787" if line.startswith("$") else "#8b949e" if line.startswith("next:") else "#e6edf3"


def _weight(line: str) -> str:
    return ' font-weight="600"' if line.startswith("$") else ""


if __name__ == "__main__":
    PICTURE.write_text(draw(session()), encoding="utf-8")
