"""The one reader of input files: what it refuses, and that it reads no more than it has to."""

from __future__ import annotations

import os
import re
import tracemalloc
from pathlib import Path

import pytest

from distributor.files import reader
from distributor.files.reader import LONGEST_LINE, FileRefused, Reason, read_file, text_lines
from distributor.model.csv_table import LONGEST_CELL
from distributor.model.text_encoding import decode


def refused(path: Path, limit: int = 100, *, follow: bool = False) -> Reason:
    with pytest.raises(FileRefused) as caught:
        read_file(path, limit, follow=follow)
    assert caught.value.message
    return caught.value.reason


def test_a_file_of_the_largest_size_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    (tmp_path / "fits").write_bytes(b"x" * 100)
    (tmp_path / "large").write_bytes(b"x" * 101)
    assert read_file(tmp_path / "fits", 100) == b"x" * 100
    assert refused(tmp_path / "large") is Reason.LARGE


def test_pipes_devices_and_folders_are_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero"), tmp_path):
        assert refused(path) is refused(path, follow=True) is Reason.SPECIAL


def test_a_link_is_followed_only_where_that_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x")
    (tmp_path / "link").symlink_to("file")
    assert refused(tmp_path / "link") is Reason.LINK
    assert read_file(tmp_path / "link", 100, follow=True) == b"x"


def test_what_is_not_there_is_told_apart_from_what_may_not_be_read(tmp_path: Path) -> None:
    assert refused(tmp_path / "nothing") is Reason.MISSING
    assert refused(tmp_path / "nothing" / "below") is Reason.MISSING
    (tmp_path / "file").write_bytes(b"x")
    assert refused(tmp_path / "file" / "below") is Reason.UNREADABLE


def test_a_file_whose_size_is_not_told_is_read_to_its_end() -> None:
    assert read_file("/proc/self/cmdline", 2**20, follow=True)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_lines_are_those_of_the_whole_text_in_every_encoding(tmp_path: Path, encoding: str) -> None:
    text = "zoë\r\nmüller\rcafé\n" * 100_000  # so that some characters lie across pieces
    (tmp_path / "list").write_bytes(text.encode(encoding))
    with text_lines(tmp_path / "list") as (lines, _):
        assert "".join(lines) == text == decode(text.encode(encoding))


def test_utf8_with_a_broken_byte_far_behind_is_still_utf8(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes("zoë\n".encode() + b"x\n" * 2**20 + b"\xff\n")
    with text_lines(tmp_path / "list") as (lines, _):
        assert next(iter(lines)) == "zoë\n"


def test_a_list_takes_no_more_memory_because_it_is_long(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"alice@example.org,Alice\n" * 500_000)
    tracemalloc.start()
    with text_lines(tmp_path / "list") as (lines, _):
        assert sum(1 for _ in lines) == 500_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5 * 2**20


def test_a_line_that_is_too_long_is_cut_off_and_is_no_row_any_more(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"a," * (2 * LONGEST_LINE) + b"\nnext\n")
    with text_lines(tmp_path / "list") as (lines, _):
        first, second = lines
    assert second == "next\n"
    assert len(first) < LONGEST_LINE + LONGEST_CELL + 10
    assert len(first.rpartition(",")[2]) > LONGEST_CELL


def test_a_list_with_too_many_lines_is_refused(tmp_path: Path) -> None:
    (tmp_path / "list").write_bytes(b"a\n" * 11)
    with pytest.raises(FileRefused, match="more than 10 lines"), text_lines(tmp_path / "list", most=10) as (lines, _):
        list(lines)


def test_nothing_but_the_reader_and_the_writer_opens_files_that_a_user_names() -> None:
    """Who opens files otherwise is listed with the reason."""
    product = Path(reader.__file__).parents[1]
    allowed = {
        "files/reader.py": "the reader",
        "files/atomic.py": "the writer",
        "files/part.py": "a lock needs the file itself",
        "mail/report_template.py": "the program's own style",
        "bootstrap/metrics.py": "a record of this machine's own",
        "bootstrap/checkpoints.py": "a checkpoint that is there already",
        "cli/audit.py": "the program's own verifier",
        "cli/verify_export.py": "it stands alone, without the reader",
        "cli/password_letters.py": "a file of letters that a killed run left",
        "portal/views.py": "the program's own texts and pictures",
        "__main__.py": "/dev/null in place of a closed stream",
        "cli/render.py": "/dev/null",
        "workers/child.py": "/dev/null",
        "workers/process.py": "/proc",
        "ledger/locks.py": "a lock needs the file itself",
        "ledger/sqlite.py": "/proc, and an empty file for SQLite",
        "ledger/high_water_marks.py": "records are written in place",
        "cli/demo/__init__.py": "its own workspace, new",
    }
    opens = re.compile(r"\bos\.open\(|(?<![\w.])open\([^)]*[\"'][rwa]b?[\"']|\.(read|write)_(text|bytes)\(|\.open\(\"")
    found = {str(file.relative_to(product)) for file in product.rglob("*.py") if opens.search(file.read_text(encoding="utf-8"))}
    assert found == set(allowed)
