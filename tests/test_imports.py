"""What the command line may load before it knows what is wanted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.authority import Authority

HEAVY = (
    "cryptography",
    "httpx2",
    "msal",
    "sqlalchemy",
    "alembic",
    "jinja2",
    "rich",
    "asyncio",
    "cattrs",
    "babel",
    "pyrage",
    "aiosmtplib",
    "asn1crypto",
    "ldap3",
    "pkilint",
    "pyhanko_certvalidator",
)


def _loaded(*arguments: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "distributor", *arguments], capture_output=True, text=True, check=False
    )
    return {line.rpartition("|")[2].strip() for line in result.stderr.splitlines() if line.startswith("import time:")}


def _heavy(loaded: set[str]) -> set[str]:
    return {name for name in loaded if name.partition(".")[0] in HEAVY}


def test_help_loads_nothing_heavy() -> None:
    loaded = _loaded("--help")
    assert "distributor.cli.app" in loaded
    assert _heavy(loaded) == set()
    assert not loaded & {"hashlib", "random", "pydantic"}
    assert len({name for name in loaded if name.partition(".")[0] == "distributor"}) < 40  # `make bench start` times it


def test_the_help_of_a_command_loads_nothing_heavy() -> None:
    assert _heavy(_loaded("password", "reveal", "--help")) == set()


def test_a_usage_error_loads_nothing_heavy() -> None:
    assert _heavy(_loaded("send", "--frobnicate")) == set()


def test_showing_the_configuration_opens_no_ledger(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "distributor", "init", str(tmp_path)], check=True, capture_output=True)
    loaded = {name.partition(".")[0] for name in _loaded("config", "show", "--config", str(tmp_path / "distributor.toml"))}
    assert "cattrs" in loaded
    assert not loaded & {"sqlalchemy", "cryptography", "jinja2", "pyrage", "rich"}


@pytest.mark.parametrize("command", [("plan", "certificates", "--json"), ("send", "--yes")])
def test_the_parent_process_of_a_run_loads_no_cryptography(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Its children do: it is what most of their memory and start is made of."""
    subprocess.run([sys.executable, "-m", "distributor", "demo", "--keep", str(tmp_path / "play")], check=True, capture_output=True)
    workspace = tmp_path / "play"
    place = ("--config", str(workspace / "distributor.toml"))
    if command[0] == "send":
        again = ("resend", "chloe@example.org", "--reason", "new phone", "--yes", *place)
        subprocess.run([sys.executable, "-m", "distributor", *again], check=True, capture_output=True)
    words = [str(workspace / word) if word == "certificates" else word for word in command]
    loaded = _loaded(*words, *place)
    assert "distributor.ledger.repository" in loaded
    assert not {name for name in loaded if name.partition(".")[0] in {"cryptography", "pyhanko_certvalidator", "asn1crypto", "pkilint"}}


def test_the_parent_process_loads_no_cryptography_for_files_that_have_certificate_and_key(tmp_path: Path, authority: Authority) -> None:
    subprocess.run([sys.executable, "-m", "distributor", "init", str(tmp_path)], check=True, capture_output=True)
    alice = authority.issue("alice@example.org")
    (tmp_path / "alice.pem").write_bytes(alice.pem + alice.key_pem())
    (tmp_path / "people.csv").write_text("email,file\nalice@example.org,alice.pem\n")
    words = ("plan", str(tmp_path / "alice.pem"), "--roster", str(tmp_path / "people.csv"))
    loaded = _loaded(*words, "--config", str(tmp_path / "distributor.toml"))
    assert "distributor.adapters.sources.files" in loaded
    assert not {name for name in loaded if name.partition(".")[0] == "cryptography"}
