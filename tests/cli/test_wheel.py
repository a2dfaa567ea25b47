"""Build once, test what was built: the wheel, in an environment that has our libraries but not our checkout, renders every message."""

from __future__ import annotations

import email
import os
import pty
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests.cli.screen import Screen
from tests.needs import require

pytestmark = pytest.mark.slow(reason="a wheel is built and installed")
ROOT = Path(__file__).parents[2]
RENDER = """
import sys
from pathlib import Path
from distributor.mail import templates
assert "site-packages" in templates.__file__, templates.__file__
remarks = templates.TemplateRenderer(None, ("en", "de", "fr")).check()
print(*(f"{remark.level}: {remark.message}" for remark in remarks), sep="\\n")
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("--wheel", tmp_path_factory.mktemp("dist"))


def build(what: str, out: Path, source: Path = ROOT) -> Path:
    argv = [sys.executable, "-m", "build", what, "--no-isolation", "--outdir", str(out), str(source)]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = out.iterdir()
    return built


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel; our libraries come from where we run, behind it on the path."""
    home = tmp_path_factory.mktemp("empty")
    venv.create(home, with_pip=False, symlinks=True)
    executable = home / "bin" / "python"
    subprocess.run([sys.executable, "-m", "pip", "--python", executable, "install", "-q", "--no-deps", "--no-index", wheel], check=True)
    (site,) = home.glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return executable


def test_the_wheel_carries_what_it_needs_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert "distributor/templates/message/en/body.html" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith((".dist-info", ".data"))} == {"distributor"}
    assert any(name.endswith(".data/data/share/man/man1/distributor.1") for name in names)
    assert any(name.endswith(".data/data/share/doc/distributor/docs/restore.md") for name in names)


def test_the_wheel_of_a_source_distribution_is_the_same_to_the_byte(wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    with tarfile.open(build("--sdist", tmp_path / "sdist")) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    assert build("--wheel", tmp_path / "again", source).read_bytes() == wheel.read_bytes()


def test_a_registry_would_take_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        found = email.message_from_bytes(archive.read(name))
    assert (found["Name"], found["License-Expression"], found["Requires-Python"]) == ("distributor", "Apache-2.0", ">=3.11")
    assert found["Description-Content-Type"] == "text/markdown"
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13)} <= set(found.get_all("Classifier", []))
    assert "## Install" in str(found.get_payload())


COMPLETED = {  # what a shell says to `distributor se` and a tab, without anything set up by hand
    "bash": """
        . /usr/share/bash-completion/bash_completion
        _comp_load distributor 2>/dev/null || _completion_loader distributor
        COMP_WORDS=(distributor se) COMP_CWORD=1
        $(complete -p distributor | sed -E 's/.*-F ([^ ]+).*/\\1/') distributor se distributor
        echo "${COMPREPLY[@]}"
    """,
    "fish": "complete -C 'distributor se' | cut -f1",
}


@pytest.mark.parametrize("shell", COMPLETED)
def test_a_shell_completes_commands_of_an_installed_wheel(python: Path, shell: str, tmp_path: Path) -> None:
    home = python.parents[1]
    environment = {"PATH": f"{python.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "XDG_DATA_DIRS": f"{home / 'share'}:/usr/share"}
    result = subprocess.run([require(shell), "-c", COMPLETED[shell]], env=environment, capture_output=True, text=True, check=False)
    assert {"self", "send", "serve"} <= set(result.stdout.split()), result.stderr


def test_zsh_completes_at_the_first_tab(python: Path, tmp_path: Path) -> None:
    functions = python.parents[1] / "share" / "zsh" / "site-functions"
    pid, terminal = pty.fork()
    if pid == 0:
        os.execve(require("zsh"), ["zsh", "-f", "-i"], {"PATH": f"{python.parent}:/usr/bin:/bin", "HOME": str(tmp_path), "TERM": "dumb"})  # noqa: S606
    shell = Screen(pid, terminal)
    shell.press(f"fpath=({functions} $fpath); autoload -U compinit; compinit -u -D; echo rea''dy\n")
    shell.until("ready")
    shell.press("distributor se\t")
    shell.until("serve")
    shell.press("\x15exit\n")
    shell.end()


def test_an_installed_wheel_renders_every_message_in_every_language(python: Path, tmp_path: Path) -> None:
    result = subprocess.run([python, "-I", "-c", RENDER], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("ok: messages in ")
    assert {"de", "en", "fr"} <= set(result.stdout.split("messages in ")[1].strip().split(", "))


def test_the_installed_command_makes_a_workspace(python: Path, tmp_path: Path) -> None:
    command = python.with_name("distributor")
    assert subprocess.run([command, "--version"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout == "distributor 0.1.0\n"
    subprocess.run([command, "init", "here"], cwd=tmp_path, capture_output=True, check=True)
    assert sorted(path.name for path in (tmp_path / "here").glob("*.*") if "-journal" not in path.name) == [
        "checkpoint.key",
        "distributor.db",
        "distributor.toml",
        "vault.key",
    ]
