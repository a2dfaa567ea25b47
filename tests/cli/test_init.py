"""`init` writes the [transport] of the server that was named, and what it writes is a configuration that loads."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from distributor.cli import app


def transport(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert app.run(["init", str(folder), *arguments]) == 0
    capsys.readouterr()
    assert app.run(["--config", str(folder / "distributor.toml"), "config", "show", "--json"]) == 0
    values = json.loads(capsys.readouterr().out)["values"]
    return {name.removeprefix("transport."): row["value"] for name, row in values.items() if name.startswith("transport.")}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), {"kind": "smtp", "host": "127.0.0.1", "port": 2525, "tls": "none"}),
        (("--graph",), {"kind": "graph", "certificate": "file:app.pem", "mailbox": "certificates@example.org", "rate": "30/min"}),
        (("--smtp", "smtp.office365.com"), {"port": 587, "tls": "starttls", "connections": 3, "rate": "30/min", "daily": 10_000}),
        (("--smtp", "SMTP.Office365.com:587"), {"host": "SMTP.Office365.com", "port": 587, "rate": "30/min"}),
        (("--smtp", "mail.example.org"), {"host": "mail.example.org", "port": 587, "tls": "starttls", "password": "env:SMTP_PASSWORD"}),
        (("--smtp", "mail.example.org:465"), {"port": 465, "tls": "implicit"}),
        (("--smtp", "localhost:2525"), {"host": "localhost", "port": 2525, "tls": "none", "password": None}),
        (("--smtp", "[::1]:25"), {"host": "::1", "port": 25, "tls": "none"}),
    ],
    ids=lambda each: "-".join(each) or "default" if isinstance(each, tuple) else "",
)
def test_the_transport_is_that_of_the_server_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: dict[str, object]
) -> None:
    found = transport(tmp_path / "new", capsys, *arguments)
    assert expected == {name: found[name] for name in expected}


@pytest.mark.parametrize("wrong", [("--smtp", "smtp://mail.example.org"), ("--smtp", 'a"b'), ("--smtp", ""), ("--smtp", "a", "--graph")])
def test_what_names_no_server_makes_nothing(tmp_path: Path, wrong: tuple[str, ...]) -> None:
    assert app.run(["init", str(tmp_path / "new"), *wrong]) == 2
    assert not (tmp_path / "new").exists()


def test_a_configuration_that_exists_is_not_overwritten_for_another_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transport(tmp_path, capsys)
    (tmp_path / "distributor.db").unlink()
    before = (tmp_path / "distributor.toml").read_bytes()
    assert app.run(["init", str(tmp_path), "--graph"]) == 1
    assert (tmp_path / "distributor.toml").read_bytes() == before
    assert not (tmp_path / "distributor.db").exists()


def test_a_table_that_was_pasted_twice_is_named_with_both_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    transport(tmp_path, capsys)
    config = tmp_path / "distributor.toml"
    text = config.read_text(encoding="utf-8")
    first, second = text.splitlines().index("[transport]") + 1, len(text.splitlines()) + 1
    config.write_text(f'{text}[transport]\nkind = "folder"\n', encoding="utf-8")
    assert app.run(["--config", str(config), "status"]) == 3
    assert capsys.readouterr().err == (
        f"error: distributor.toml line {second}: [transport] is there twice, first in line {first}\n"
        f"hint: replace this table: keep one of the two, in line {first} or {second}\n"
    )
