"""The base install: what `requirements/runtime.txt` pins is enough for the program, and brings no extra and no build tool along."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tomllib
import venv
from importlib import metadata
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PINNED = ROOT / "requirements"
EXTRAS = ("postgresql", "keyring", "ldap", "lint")


def pins(name: str) -> dict[str, str]:
    """The versions in a file, by package."""
    text = (PINNED / f"{name}.txt").read_text(encoding="utf-8")
    return dict(re.findall(r"(?m)^([a-z0-9-]+)==([^ ]+)", text))


def project() -> dict[str, list[str]]:
    extras: dict[str, list[str]] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    return extras


def test_the_base_set_has_no_extra_and_no_build_tool() -> None:
    wanted = {re.split(r"[\[>]", line)[0] for name in EXTRAS for line in project()[name]}
    assert wanted == {"psycopg", "keyring", "ldap3", "pkilint"}
    assert not (wanted | {"hatchling", "build", "editables", "pytest", "mypy"}) & set(pins("runtime"))
    assert set(pins("build")) >= {"hatchling", "build", "editables"}


@pytest.mark.parametrize("extra", EXTRAS)
def test_an_extra_has_its_own_file_which_agrees_with_the_base(extra: str) -> None:
    found = pins(extra)
    assert {re.split(r"[\[>]", line)[0] for line in project()[extra]} <= set(found)
    for others in (pins("runtime"), pins("dev")):
        assert {name: others[name] for name in found if name in others} == {name: found[name] for name in found if name in others}


def test_the_files_name_no_registry_and_every_pin_has_a_hash() -> None:
    for path in PINNED.glob("*.txt"):
        text = path.read_text(encoding="utf-8")
        assert "://" not in text
        assert not re.search(r"(?m)^-", text)
        assert text.count("\n    --hash=sha256:") >= len(pins(path.stem)) > 0


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the base set alone, which lies where we run from."""
    home = tmp_path_factory.mktemp("base")
    venv.create(home, with_pip=False, symlinks=True)
    (site,) = home.glob("lib/python*/site-packages")
    for name in pins("runtime"):
        try:
            files = metadata.distribution(name).files or []
        except metadata.PackageNotFoundError:
            continue  # of another system
        for file in files:
            link = site / file.parts[0]
            if file.parts[0] != ".." and not link.is_symlink():
                link.symlink_to(Path(str(file.locate())).parents[len(file.parts) - 2] if len(file.parts) > 1 else Path(str(file.locate())))
    return home / "bin" / "python"


def test_the_demo_runs_with_the_base_set_alone(python: Path, tmp_path: Path) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DISTRIBUTOR", "PYTHON", "XDG"))}
    environment = {**kept, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    for missing in ("ldap3", "psycopg", "keyring", "pkilint", "hatchling", "pytest"):
        assert subprocess.run([python, "-c", f"import {missing}"], env=environment, capture_output=True, check=False).returncode == 1
    result = subprocess.run(
        [python, "-m", "distributor", "demo", "--json"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["opened"] is True
