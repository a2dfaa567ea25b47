"""What the command line may load before it knows what is wanted."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from distributor.ledger import channel_repository, reminder_repository, repository, request_repository
from distributor.ledger.lazy import LazyModule
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
    "flufl",
)


REPORT = """
import atexit, sys
from distributor.__main__ import main
atexit.register(lambda: print("loaded:", *sys.modules, file=sys.__stderr__))
main()
"""


def _loaded(*arguments: str) -> set[str]:
    """The modules that a command loaded by its end; `-X importtime` does not see what `importlib.import_module` loads."""
    result = subprocess.run([sys.executable, "-c", REPORT, *arguments], capture_output=True, text=True, check=False)
    return {name for line in result.stderr.splitlines() if line.startswith("loaded:") for name in line.split()[1:]}


def _heavy(loaded: set[str]) -> set[str]:
    return {name for name in loaded if name.partition(".")[0] in HEAVY}


def test_help_loads_nothing_heavy() -> None:
    loaded = _loaded("--help")
    assert "distributor.cli.app" in loaded
    assert _heavy(loaded) == set()
    assert not loaded & {"hashlib", "random", "pydantic"}
    assert len({name for name in loaded if name.partition(".")[0] == "distributor"}) < 45  # `make bench start` times it


def test_the_help_of_a_command_loads_nothing_heavy() -> None:
    assert _heavy(_loaded("password", "reveal", "--help")) == set()


def test_a_usage_error_loads_nothing_heavy() -> None:
    assert _heavy(_loaded("send", "--frobnicate")) == set()


def test_showing_the_configuration_opens_no_ledger(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "distributor", "init", str(tmp_path)], check=True, capture_output=True)
    loaded = {name.partition(".")[0] for name in _loaded("config", "show", "--config", str(tmp_path / "distributor.toml"))}
    assert "cattrs" in loaded
    assert not loaded & {"sqlalchemy", "cryptography", "jinja2", "pyrage", "rich"}


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace in which everything was sent."""
    folder = tmp_path_factory.mktemp("demo") / "play"
    subprocess.run([sys.executable, "-m", "distributor", "demo", "--keep", str(folder)], check=True, capture_output=True)
    return folder


NOT_TO_READ = frozenset({*HEAVY, "pydantic", "psycopg"} - {"cattrs", "sqlalchemy", "asyncio"})  # SQLAlchemy loads asyncio


@pytest.mark.parametrize(
    "command",
    [
        ("config", "show"),
        ("status",),
        ("history", "alice@example.org"),
        ("send", "--yes"),
        ("password", "reveal", "alice@example.org", "--reason", "called again", "--stdout"),
    ],
    ids=lambda command: command[0],
)
def test_what_is_typed_often_loads_only_what_it_needs(sent: Path, command: tuple[str, ...]) -> None:
    """`make bench` times it (tests/bench/start.py)."""
    loaded = _loaded(*command, "--config", str(sent / "distributor.toml"))
    assert "distributor.bootstrap" in loaded
    others = {"audit", "deliveries", "demo", "doctor", "init", "intune", "plan", "templates", "track", "trust"}
    assert not loaded & {f"distributor.cli.{name}" for name in others}
    opens_passwords = {"pyrage"} if command[0] == "password" else set()
    assert {name.partition(".")[0] for name in loaded} & NOT_TO_READ == opens_passwords
    assert "sqlalchemy.dialects.postgresql" not in loaded
    if command[0] == "config":
        assert not loaded & {"sqlalchemy", "asyncio", "ssl"}


WRITING = frozenset(  # modules of the ledger, and what they are loaded with, that no command needs to read
    {
        *(f"distributor.ledger.{name}" for name in ("adoption", "certificates", "eligibility", "mailbox_cleanup", "packing", "planning")),
        *(f"distributor.ledger.{name}" for name in ("projection", "resolution", "sending", "verification", "schema_verification")),
    }
)


@pytest.mark.parametrize("command", [("status",), ("history", "alice@example.org")], ids=lambda command: command[0])
def test_a_command_that_reads_loads_no_part_of_the_ledger_that_writes(sent: Path, command: tuple[str, ...]) -> None:
    loaded = _loaded(*command, "--config", str(sent / "distributor.toml"))
    assert "distributor.ledger.repository" in loaded
    assert not loaded & {*WRITING, "distributor.ledger.message_verification", "distributor.mail.message"}


def test_a_command_that_writes_loads_the_part_of_the_ledger_that_it_needs(sent: Path) -> None:
    """As the test above would pass if no such module could be seen."""
    loaded = _loaded("resend", "bernd@example.org", "--reason", "new phone", "--yes", "--config", str(sent / "distributor.toml"))
    assert {"distributor.ledger.eligibility", "distributor.ledger.planning"} <= loaded


@pytest.mark.parametrize("file", [repository, request_repository, channel_repository, reminder_repository], ids=lambda file: file.__name__)
def test_every_module_that_the_ledger_loads_late_exists(file: ModuleType) -> None:
    """A type checker sees one list of them, the program the other."""
    tree = ast.parse(Path(file.__file__).read_text(encoding="utf-8"))
    checked = {
        alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "distributor.ledger"
        for alias in node.names
    }
    late = {name: module for name, module in vars(file).items() if isinstance(module, LazyModule)}
    assert late.keys() == checked - {"queries"}
    assert late
    for name, module in late.items():
        assert module.__name__ == f"distributor.ledger.{name}"


def test_sending_with_nothing_due_starts_no_child_and_loads_no_transport_that_sends(sent: Path) -> None:
    settings = (sent / "distributor.toml").read_text(encoding="utf-8")
    smtp = settings.replace('kind = "folder" ', 'kind = "smtp" ').replace(
        'path = "messages/"', 'host = "127.0.0.1"\nport = 9\ntls = "none"'
    )
    (sent / "smtp.toml").write_text(smtp, encoding="utf-8")
    loaded = _loaded("send", "--yes", "--config", str(sent / "smtp.toml"))
    assert "distributor.adapters.transports.smtp.settings" in loaded
    assert not {name for name in loaded if name.startswith(("distributor.workers.pool", "distributor.adapters.transports.smtp.t"))}
    assert not loaded & {"distributor.mail.templates", "distributor.workflows.packing", "distributor.bootstrap.inputs"}


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
