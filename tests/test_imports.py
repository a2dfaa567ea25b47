"""What the command line may load before it knows what is wanted."""

from __future__ import annotations

import subprocess
import sys

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
)


def _loaded(*arguments: str) -> set[str]:
    told = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "distributor", *arguments], capture_output=True, text=True, check=False
    )
    return {line.rpartition("|")[2].strip() for line in told.stderr.splitlines() if line.startswith("import time:")}


def _heavy(loaded: set[str]) -> set[str]:
    return {name for name in loaded if name.partition(".")[0] in HEAVY}


def test_help_loads_nothing_heavy() -> None:
    loaded = _loaded("--help")
    assert "distributor.cli.app" in loaded
    assert _heavy(loaded) == set()


def test_the_help_of_a_command_loads_nothing_heavy() -> None:
    assert _heavy(_loaded("password", "reveal", "--help")) == set()


def test_a_usage_error_loads_nothing_heavy() -> None:
    assert _heavy(_loaded("send", "--frobnicate")) == set()


def test_showing_the_configuration_opens_no_ledger(tmp_path: object) -> None:
    assert not {"sqlalchemy", "cryptography"} & {
        name.partition(".")[0] for name in _loaded("config", "show", "--config", f"{tmp_path}/none.toml")
    }
