"""Prints lines, tables and streaming JSON, deliveries too; formats times and counts. Control characters in foreign text are escaped."""

from __future__ import annotations

import errno
import io
import itertools
import json
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as quoted  # in ASCII, as `render.encoded`
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from distributor.model.issues import Issue


BOLD, DIM, RED, YELLOW, GREEN = "1", "2", "31", "33", "32"
STDOUT, STDERR = "standard output", "standard error"
ENOUGH = 40  # rows that a table measures to find its widths; more would delay the first line of a long one
NARROWEST = 40  # columns
NAMING = frozenset({"address", "delivery", "key"})  # headers of first columns whose cells need no name in a stacked row
_WORD = re.compile(r"(\s*)((?:`[^`]*`|\S)+)")
_COLOUR = re.compile("\x1b\\[[0-9;]*m")


class StandardStream(io.FileIO):
    """Standard output or standard error. Its failures carry its name, so that no failure of something else is taken for one of them."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "wb", closefd=False)

    def write(self, data: ReadableBuffer, /) -> int:
        """Write bytes; how many."""
        name = STDERR if self.fileno() == 2 else STDOUT  # noqa: PLR2004  its number
        try:
            written = super().write(data)
        except OSError as error:
            raise OSError(error.errno, error.strerror, name) from None
        if written is None:  # somebody made it non-blocking, and its reader is slow
            raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), name)
        return written


def stderr_line(text: str = "") -> None:
    """Print a line for people on stderr; a terminal's is wrapped, that of a log stays whole."""
    sys.stdout.flush()
    shown = _shown(text)
    sys.stderr.write((wrapped(shown, 2) if sys.stderr.isatty() else shown) + "\n")
    sys.stderr.flush()


def stdout_line(text: str = "") -> None:
    """Print a line of data on stdout."""
    sys.stdout.write(_shown(text) + "\n")


def _shown(text: str) -> str:
    """The text with unsafe characters escaped, but for line ends and our own colours."""
    if text.isascii() and text.isprintable():
        return text
    from distributor.model.people import is_unsafe

    return "".join(c if c in "\n\x1b" or not is_unsafe(c) else c.encode("unicode_escape").decode() for c in text)


def escape(text: object) -> str:
    """Foreign text made safe for a terminal: no escape sequence, no line break, no bidi mark."""
    shown = str(text)
    if shown.isascii() and shown.isprintable():
        return shown
    from distributor.model.people import escape_unsafe

    return escape_unsafe(shown)


def coloured(text: str, colour: str, stream: TextIO | None = None) -> str:
    """The text in a colour where the stream is a terminal that wants colours."""
    stream = stream or sys.stdout
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb" or not stream.isatty():
        return text
    return f"\x1b[{colour}m{text}\x1b[0m"


def time(moment: datetime | None) -> str | None:
    """A moment as `2026-01-01T00:00:00Z`."""
    if moment is None:
        return None
    return (moment if moment.tzinfo is UTC else moment.astimezone(UTC)).isoformat()[:19] + "Z"


def day(moment: datetime) -> str:
    """A moment's date, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d")


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """`1 delivery`, `2 deliveries`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print rows on stdout in columns, or stacked where a terminal is too narrow; nothing is cut.

    Its first rows decide both the widths and the form, so that a long table streams.
    """
    stream = iter(rows)
    safe = [[escape(cell) for cell in row] for row in itertools.islice(stream, ENOUGH)]
    if not safe:
        return
    widths = [max(len(line[column]) for line in (list(header), *safe)) for column in range(len(header))]
    pattern = "  ".join(f"{{:{width}}}" for width in widths)
    lines = [pattern.format(*cells).rstrip() for cells in (header, *safe)]
    limit = columns() if sys.stdout.isatty() else None
    if limit is not None and max(map(len, lines)) > limit:
        for cells in itertools.chain(safe, (list(map(escape, row)) for row in stream)):
            stdout_line(_stacked(header, cells, limit))
        return
    stdout_line(coloured(lines[0], DIM))
    for line in lines[1:]:
        stdout_line(line)
    for row in stream:
        line = pattern.format(*map(str, row)).rstrip()
        plain = line.isascii() and line.isprintable()
        sys.stdout.write((line if plain else pattern.format(*map(escape, row)).rstrip()) + "\n")


def _stacked(header: Sequence[str], cells: Sequence[str], limit: int) -> str:
    """A row on lines of its own: what it is about, then as many `name: value` on a line as fit; empty cells are left out."""
    lines = [cells[0] if header[0] in NAMING else f"{header[0]}: {cells[0]}"]
    for name, cell in zip(header[1:], cells[1:], strict=True):
        if not cell:
            continue
        pair = f"{name}: {cell}" if name else cell
        if len(lines[-1]) + 3 + len(pair) <= limit:
            lines[-1] += f"   {pair}"
        else:
            lines.append(f"  {pair}")
    shown = "\n".join(wrapped(line, 4) for line in lines)
    return coloured(shown[: len(cells[0])], BOLD) + shown[len(cells[0]) :] if header[0] in NAMING else shown


def columns() -> int:
    """Characters in a line: $COLUMNS, else the terminal's width, else 80."""
    return max(shutil.get_terminal_size().columns, NARROWEST)


def wrapped(text: str, indent: int) -> str:
    """The text wrapped between words, later lines indented. A `command` stays on one line, so that it can be copied."""
    limit = columns()
    if len(text) <= limit and "\n" not in text:
        return text
    return "\n".join(_wrapped_line(line, indent, limit) for line in text.split("\n"))


def _wrapped_line(text: str, indent: int, limit: int) -> str:
    lines, used = [""], 0
    for gap, word in _WORD.findall(text):
        length = len(_COLOUR.sub("", word))
        if used + len(gap) + length > limit and lines[-1].strip():
            lines.append(" " * indent + word)
            used = indent + length
        else:
            lines[-1] += gap + word
            used += len(gap) + length
    return "\n".join(lines)


def print_json(schema: str, values: Mapping[str, object]) -> None:
    """Print one JSON object on stdout, `schema` first. A value that is an iterator streams, one element on each line."""
    write = sys.stdout.write
    write("{" + f'"schema": "distributor/{schema}/1"')
    for key, value in values.items():
        write(f",\n {json.dumps(key)}: ")
        if isinstance(value, Iterator):
            _stream(value)
        else:
            write(encoded(value))
    write("}\n")


class Written(str):
    """Text that is JSON already."""

    __slots__ = ()


def _stream(items: Iterator[object]) -> None:
    sys.stdout.write("[")
    separator = "\n  "
    for item in items:
        sys.stdout.write(separator + (item if isinstance(item, Written) else encoded(item)))
        separator = ",\n  "
    sys.stdout.write("]")


def encoded(value: object) -> str:
    """A value as ASCII JSON, so that neither the terminal's encoding nor a bidi mark matters."""
    return _ENCODER.encode(value)


def _plain(value: object) -> object:
    match value:
        case datetime():
            return time(value)
        case Mapping():
            return dict(value)
        case set() | frozenset() | tuple():
            return list(value)
    return str(value)


_ENCODER = json.JSONEncoder(default=_plain)  # made once: that costs more than most rows


def stop_writing(stream: TextIO) -> None:
    """Discard all further output on a standard stream, buffered output too, so that Python does not complain at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def flush() -> None:
    """Flush both streams, so that output of two writers keeps its order."""
    sys.stdout.flush()
    sys.stderr.flush()


def issue_row(issue: Issue) -> dict[str, object]:
    """An issue as in every command's `--json`."""
    return {
        "severity": issue.severity,
        "check": issue.check,
        "source": issue.source,
        "line": issue.line,
        "address": issue.address,
        "message": issue.message,
        "hint": issue.hint,
    }


def print_issue(issue: Issue) -> None:
    """Print an issue in three lines."""
    stdout_line("\n" + wrapped(f"{coloured_severity(issue)}  {issue.check}  {escape(_place(issue))}".rstrip(), 9))
    for text in filter(None, (issue.message, issue.hint)):
        stdout_line(wrapped(f"         {escape(text)}", 9))  # columns; below the severity


def coloured_severity(issue: Issue) -> str:
    """The severity in a column of 7."""
    return coloured(f"{issue.severity:<7}", {"error": RED, "warning": YELLOW}.get(str(issue.severity), DIM))


def _place(issue: Issue) -> str:
    """File, line and address, as far as an issue has them."""
    place = " ".join(filter(None, (issue.source, f"line {issue.line}" if issue.line else None)))
    return "  ".join(filter(None, (place, issue.address)))


# --- delivery json --------------------------------------------------------------------------------
#
# Formats a row of `Ledger.rows` for `status --json`, four times as fast as `json.dumps` of an object: there may be 100 000.


def delivery_json(row: tuple[Any, ...]) -> Written:
    """A delivery as JSON; times are UTC text whose first 19 characters are seconds."""
    (
        id_,
        address,
        name,
        language,
        generation,
        state,
        attempts,
        message_id,
        package,
        profile,
        said,
        not_before,
        updated,
        plan,
        sha256,
        serial,
        subject,
        not_after,
        channel,
        password,
        way,
        series,
        predecessor,
    ) = row
    waits = f'"{not_before[:19]}Z"' if not_before else "null"
    return Written(
        f'{{"id": "{id_}", "address": {quoted(address)}, "name": {quoted(name)}, "language": {quoted(language)}, "state": "{state}", '
        f'"generation": {generation}, "attempts": {attempts}, "message_id": {_text(message_id)}, '
        f'"package_sha256": {_text(package)}, "profile": {_text(profile)}, '
        f'"said": {_text(said)}, "not_before": {waits}, "updated_at": "{updated[:19]}Z", '
        f'"plan": {quoted(plan)}, "certificate": {{"sha256": "{sha256}", "serial": "{serial}", "subject": {quoted(subject)}, '
        f'"not_after": "{not_after[:19]}Z"}}, "password": {_password(channel, password)}, '
        f'"way": "{way}", "series": {_text(series or None)}, "predecessor": {_text(predecessor)}}}'
    )


def _text(value: str | None) -> str:
    return "null" if value is None else quoted(value)


def _password(channel: str | None, state: str | None) -> str:
    return f'{{"channel": {quoted(channel)}, "state": "{state}"}}' if channel else "null"
