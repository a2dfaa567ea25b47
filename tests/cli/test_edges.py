"""Where the program meets the shell: pipes that close, signals, foreign text, its own faults."""

from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from distributor.cli import app, render
from tests.workspace import Workspace


@pytest.mark.parametrize("command", ["distributor history alice@example.org --json", "distributor --help", "distributor config show"])
def test_a_reader_that_goes_away_is_no_error(sent: Workspace, command: str) -> None:
    result = sent.run(f"({command} 2>/dev/null; echo $? >&2) | true")
    assert result.stdout == "0\n"


def test_a_broken_template_is_named_by_every_dry_run_until_it_is_mended(planned: Workspace) -> None:
    words = planned.folder / "templates" / "message" / "en" / "body.txt"
    words.parent.mkdir(parents=True)
    words.write_text("Hello\n{{ nobody.name }}\n")
    for _ in range(2):
        result = planned.run("distributor send --dry-run look")
        assert result.returncode == 1, result.stdout
        assert 'templates/message/en/body.txt line 2: unknown variable "nobody" (correct the template' in result.stdout
        assert "next: fix the errors above" in result.stdout
    words.unlink()
    result = planned.run("distributor send --dry-run look")
    assert (result.returncode, len(list((planned.folder / "look").glob("*.eml")))) == (0, 2)


def test_a_message_that_waits_is_shown_with_its_time(sent: Workspace) -> None:
    sent.run_script("+ pfx later later@example.org\n$ distributor plan certificates/later.pfx >/dev/null 2>&1\n")
    assert "next: distributor send after 20" in sent.run("distributor send --yes").stdout
    assert "in 10 minutes (due 20" in sent.run("distributor status --state deferred").stdout
    assert "nothing is due until 20" in sent.run("distributor send --yes").stdout


def test_a_full_disk_behind_stdout_is_told(sent: Workspace) -> None:
    result = sent.run("distributor status --json >/dev/full")
    assert result.returncode == 3
    assert result.stdout.startswith("error: standard output: cannot write the output: no space left on device\n")


def test_closed_streams_are_no_reason_to_fail(sent: Workspace) -> None:
    assert sent.run("distributor status >&- 2>&- <&-; echo $?").stdout == "0\n"


@pytest.mark.slow(reason="every command with every encoding")
def test_any_text_goes_to_any_terminal(sent: Workspace) -> None:
    sent.run_script("+ pfx zoe zoe@example.org\n+ roster zoe@example.org,Zo\u00eb_\u4f8b,en\n")
    result = sent.run("distributor plan certificates/zoe.pfx --roster people.csv", PYTHONIOENCODING="ascii")
    assert result.returncode == 0, result.stdout
    assert "Zo\\xeb \\u4f8b" in result.stdout


def test_a_fault_of_the_program_is_told_without_a_traceback(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("the secret is open sesame")

    monkeypatch.setattr("distributor.cli.init.create", broken)
    assert app.run(["init", "anywhere"]) == 3
    result = capsys.readouterr().err
    assert "internal error in distributor 0.1.0: KeyError in cli/init.py line" in result
    assert "sesame" not in result
    assert "Traceback" not in result


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.EAGAIN, "fork failed"), "error: the operating system reports: resource temporarily unavailable\n"),
        (OSError(errno.EMFILE, "too many"), "error: the operating system reports: too many open files\n"),
        (OSError(errno.EINVAL, "a secret"), "internal error in distributor 0.1.0: OSError EINVAL in cli/init.py line"),
        (OSError("a secret"), "internal error in distributor 0.1.0: OSError in cli/init.py line"),
        (BrokenPipeError(errno.EPIPE, "a child"), "internal error in distributor 0.1.0: BrokenPipeError EPIPE in cli/init.py line"),
        (PermissionError(errno.EACCES, "no", "some/file"), "error: some/file: permission denied\n"),
    ],
)
def test_an_error_of_the_system_is_not_blamed_on_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError, expected: str
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("distributor.cli.init.create", broken)
    assert app.run(["init", "anywhere"]) == 3
    stderr = capsys.readouterr().err
    assert expected in stderr
    assert "standard output" not in stderr
    assert "secret" not in stderr


@pytest.mark.parametrize("size", [10, 3_000, 5_000, 100_000])
def test_an_error_of_standard_output_bears_its_name(size: int) -> None:
    code = f"""
import sys
from distributor.__main__ import _streams
_streams()
try:
    print("x" * {size}, flush=True)
except OSError as error:
    print(error.filename, file=sys.stderr, flush=True)
    __import__("os")._exit(0)
"""
    result = subprocess.run(["sh", "-c", 'exec "$0" -c "$1" >/dev/full', sys.executable, code], capture_output=True, text=True, check=True)
    assert result.stderr == "standard output\n"


def test_no_core_is_dumped_and_files_are_for_their_owner(tmp_path: Path) -> None:
    code = """
import os, resource, sys
from distributor.__main__ import main
sys.argv = ["distributor", "--version"]
try:
    main()
except SystemExit:
    print(resource.getrlimit(resource.RLIMIT_CORE), oct(os.umask(0)))
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "(0, 0) 0o77"


def test_foreign_text_cannot_move_the_cursor() -> None:
    assert render.escape("250 fine\x1b[2J\r\n\u202egpj.exe") == "250 fine\\x1b[2J\\r\\n\\u202egpj.exe"


def test_an_answer_is_one_object_in_ascii_whose_first_key_is_the_schema(capsys: pytest.CaptureFixture[str]) -> None:
    render.print_json("status", {"counts": {}, "deliveries": iter([{"name": "Zoë \u202e"}, {"name": "b"}])})
    result = capsys.readouterr().out
    assert result.isascii()
    assert list(json.loads(result)) == ["schema", "counts", "deliveries"]
    assert json.loads(result)["deliveries"] == [{"name": "Zoë \u202e"}, {"name": "b"}]


def test_a_sending_run_that_is_told_to_stop_ends_with_130_and_loses_nothing(planned: Workspace) -> None:
    config = planned.folder / "distributor.toml"
    config.write_text(config.read_text(encoding="utf-8").replace('# rate = "30/min"', 'rate = "1/min"'), encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-m", "distributor", "send", "--yes"],
        cwd=planned.folder,
        env=planned.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as sending:
        assert planned.handler.arrived.wait(300)
        sending.send_signal(signal.SIGTERM)
        result, _ = sending.communicate(timeout=300)
    assert sending.returncode == 130, result
    assert "Traceback" not in result
    counts = json.loads(planned.run("distributor status --json").stdout)["counts"]
    assert counts == {"queued": 1, "accepted": 1}


def test_init_leaves_nothing_behind_when_it_fails_midway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("distributor.bootstrap.create_ledger", full)
    assert app.run(["init", str(tmp_path / "a" / "b")]) != 0
    assert list(tmp_path.iterdir()) == []


def test_a_workspace_has_a_name_that_can_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["init", str(tmp_path / "\udcff")]) == 3
    assert "unprintable characters" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_wrong_value_of_an_option_is_told_in_lower_case(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["status", "--state", "nope"]) == 2
    assert capsys.readouterr().err.startswith('error: invalid value for "--state": "nope" is not one of ')
    assert app.run(["send", "--limit", "x"]) == 2
    assert capsys.readouterr().err.startswith('error: invalid value for "--limit": input should be ')


def test_templates_in_the_folder_of_earlier_versions_stop_a_send_and_are_told(planned: Workspace) -> None:
    own = planned.folder / "templates/letter/en"
    own.mkdir(parents=True)
    (own / "subject.txt").write_text("our own words\n", encoding="utf-8")
    for command, code in (
        ("send --yes", 3),
        ("send --dry-run look", 3),
        ("resend alice@example.org --reason lost --yes", 3),
        ("doctor", 1),
        ("plan certificates --roster people.csv", 0),
    ):
        result = planned.run(f"distributor {command}")
        assert result.returncode == code, result.stdout
        assert "templates/letter: these templates are not used: the folder is now templates/message" in " ".join(result.stdout.split())
        assert "mv templates/letter templates/message" in result.stdout
    assert planned.handler.messages == []
    (planned.folder / "templates/message").mkdir()
    assert "move its files into templates/message; in the files" in planned.run("distributor send --yes").stdout
    (planned.folder / "templates/message").rmdir()
    own.parent.rename(planned.folder / "templates/message")
    assert planned.run("distributor send --yes").returncode == 0
    assert any(b"our own words" in message for message in planned.handler.messages)
