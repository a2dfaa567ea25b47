"""A database password that stands in `ledger.url`, wherever it stands there, is in nothing that a command prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.workspace import Workspace


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:sesame@street@127.0.0.1:1/x",
        "postgresql+psycopg://me@127.0.0.1:1/x?password=sesame@street",
        "postgresql+psycopg://127.0.0.1:1/x?sslpassword=sesame-street&passfile=/street",
    ],
)
def test_no_command_prints_it(tmp_path: Path, authority: Authority, url: str) -> None:
    workspace = Workspace(tmp_path, authority)
    workspace.run_script("$ distributor init >/dev/null 2>&1\n")
    config = workspace.folder / "distributor.toml"
    text, found = re.subn(r'(?m)^url = "sqlite.*"', f'url = "{url}"', config.read_text(encoding="utf-8"))
    assert found == 1
    config.write_text(text, encoding="utf-8")
    for command, code in (("config show", 0), ("config show --json", 0), ("status", None), ("doctor", None)):
        done = workspace.run(f"distributor {command}")
        assert code in {done.returncode, None}, done.stdout
        assert not re.search("sesame|street|Traceback|fault of its own", done.stdout), done.stdout
        assert "ledger" in done.stdout
