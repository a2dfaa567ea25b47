"""Parses a CSV file line by line into its header and rows, each with its first physical line; a malformed row becomes its error text."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator

from distributor.model.csv_table import Columns, HeaderError, header
from distributor.model.plaintext import LONGEST_CELL


class Rows:
    """The rows of a CSV file. Read `columns` first."""

    def __init__(self, lines: Iterable[str]) -> None:
        """`lines`: with their line ends, of any kind."""
        self._lines = iter(lines)
        self._before = 0  # lines before those that the reader counts
        self._delimiter = ","

    @property
    def line(self) -> int:
        """The line of the header, after `columns` was read."""
        return self._before

    def columns(self) -> Columns | HeaderError:
        """The columns that the header names, or why it names none."""
        for line in self._lines:
            self._before += 1
            if not line.strip(" \t\r\n,;") or line.lower().startswith("sep="):
                continue  # spreadsheets begin with either
            found = header(line)
            if isinstance(found, Columns):
                self._delimiter = found.delimiter
            return found
        return HeaderError("the list is empty", "the first line names the columns, such as email,name,file")

    def __iter__(self) -> Iterator[tuple[int, list[str] | str]]:
        reader = csv.reader(self._lines, delimiter=self._delimiter, strict=True)
        while True:
            line = self._before + reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield line, str(error)
                continue
            yield line, f"a cell has more than {LONGEST_CELL} characters" if any(len(cell) > LONGEST_CELL for cell in cells) else cells
