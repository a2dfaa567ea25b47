"""Build once, test what was built: the wheel, in an environment that has our libraries but not our checkout, renders every message."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

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
    out = tmp_path_factory.mktemp("dist")
    result = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    (built,) = out.glob("*.whl")
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
