"""A whole run with secrets that are known, and a search for them everywhere: ledger and journal, files, temp, argv, output, tracebacks.

Known are the password of the incoming file, the private key, the SMTP password and the new password. Each may be where it belongs
and nowhere else.
"""

from __future__ import annotations

import base64
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from email import message_from_bytes
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from distributor.model.secret import Secret
from tests.authority import Authority, key_of
from tests.workspace import PASSWORD, Workspace

COMMANDS = (
    "plan certificates --roster people.csv",
    "plan certificates --roster people.csv --json",
    "send --dry-run look --json",
    "send --yes --json",
    "status --json",
    "history alice@example.org --json",
    "config show --json",
    "doctor --json",
    "resolve --json",
    "audit export --output evidence.jsonl",
    "audit export --format csv --output evidence.csv",
    "audit verify evidence.jsonl",
)


def spellings(secret: bytes) -> set[bytes]:
    """A secret as it may lie somewhere: plain, base64 at each of three offsets, hex, UTF-16."""
    found = {secret, secret.hex().encode()}
    for offset in range(3):
        found.add(base64.b64encode(bytes(offset) + secret)[4:-4])
    if secret.isascii():
        found.add(secret.decode().encode("utf-16-le"))
    return found


def key_spellings(key: RSAPrivateKey) -> set[bytes]:
    """The key's own numbers, whatever stands around them."""
    numbers = key.private_numbers()
    lengths = {numbers.d: key.key_size // 8, numbers.p: key.key_size // 16, numbers.q: key.key_size // 16}
    parts = [number.to_bytes(length, "big")[:48] for number, length in lengths.items()]
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).splitlines()[4]
    return {pem, *(spelling for part in parts for spelling in spellings(part))}


class Watch:
    """Notes the command line of every process that runs below us, and what it says of itself."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> set[bytes]:
        self._thread.start()
        return self.seen

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(0.01):
            for process in Path("/proc").iterdir():
                if process.name.isdigit():
                    try:
                        self.seen.add((process / "cmdline").read_bytes())
                    except OSError:
                        continue  # it is gone, or not ours


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority) -> Iterator[Workspace]:
    found = Workspace(tmp_path / "play", authority)
    found.folder.mkdir()
    yield found
    found.close()


@pytest.fixture
def traces(workspace: Workspace, tmp_path: Path) -> dict[str, bytes]:
    """Everything the run left behind, by place; but for the incoming files and the vault's key, where secrets belong."""
    temp = tmp_path / "temp"
    temp.mkdir()
    workspace.run_script("$ distributor init >/dev/null 2>&1\n+ server\n+ people\n")
    printed = []
    with Watch() as processes:
        for command in COMMANDS:
            done = workspace.run(f"distributor {command}", TMPDIR=str(temp), SMTP_PASSWORD="open-sesame-smtp")
            printed.append(done.stdout)
            assert done.returncode in {0, 1}, done.stdout
    assert len(workspace.handler.messages) == 2
    places = {"terminal": "".join(printed).encode(), "argv": b"\n".join(processes)}
    for path in [*workspace.folder.rglob("*"), *temp.rglob("*")]:
        if path.is_file() and "certificates" not in path.parts and path.name != "vault.key":
            places[str(path.relative_to(tmp_path))] = path.read_bytes()
    return places


def _messages(places: dict[str, bytes]) -> list[str]:
    return [place for place in places if place.endswith(".eml")]


def test_no_secret_is_where_it_does_not_belong(traces: dict[str, bytes], workspace: Workspace) -> None:
    """One run for all, since it takes long."""
    the_search_finds_what_is_there(traces)
    the_password_of_the_incoming_file_is_nowhere(traces)
    the_private_key_is_nowhere(traces)
    private_files_are_for_their_owner_only(workspace)
    the_new_password_is_nowhere_until_it_is_revealed_and_then_on_stdout_only(traces, workspace)


def the_password_of_the_incoming_file_is_nowhere(traces: dict[str, bytes]) -> None:
    assert "play/distributor.db" in traces
    assert _messages(traces)
    found = [place for place, data in traces.items() if any(spelling in data for spelling in spellings(PASSWORD.encode()))]
    assert found == []


def the_private_key_is_nowhere(traces: dict[str, bytes]) -> None:
    """Inside its package it is encrypted, so not even the messages hold it in clear."""
    wanted = key_spellings(key_of("alice@example.org")) | key_spellings(key_of("bob@example.org"))
    assert [place for place, data in traces.items() if any(spelling in data for spelling in wanted)] == []
    opened = [part.get_payload(decode=True) for part in message_from_bytes(traces[_messages(traces)[0]]).walk() if not part.is_multipart()]
    assert not [data for data in opened if isinstance(data, bytes) and any(spelling in data for spelling in wanted)]


def the_new_password_is_nowhere_until_it_is_revealed_and_then_on_stdout_only(traces: dict[str, bytes], workspace: Workspace) -> None:
    before = dict(traces)
    with Watch() as processes:
        password = workspace.run('distributor password reveal alice@example.org --reason "she called" --stdout').stdout.strip()
    assert len(password) == 29
    wanted = spellings(password.encode()) | spellings(password.replace("-", "").encode())
    after = {str(path): path.read_bytes() for path in workspace.folder.rglob("*") if path.is_file()}
    everything = {**before, **after, "argv": b"\n".join(processes)}
    assert [place for place, data in everything.items() if any(spelling in data for spelling in wanted)] == []


def the_search_finds_what_is_there(traces: dict[str, bytes]) -> None:
    """A search that finds nothing anywhere would prove nothing."""
    assert any(b"alice@example.org" in data for place, data in traces.items() if place.endswith("distributor.db"))
    key = key_of("alice@example.org")
    clear = base64.encodebytes(b"x" + key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())).replace(b"\n", b"")
    assert any(spelling in clear for spelling in key_spellings(key))
    assert any(spelling in b"..." + base64.b64encode(b"abcd" + PASSWORD.encode() + b"efgh") for spelling in spellings(PASSWORD.encode()))
    assert b"send" in traces["argv"]


def private_files_are_for_their_owner_only(workspace: Workspace) -> None:
    made = [path for path in workspace.folder.rglob("*") if "certificates" not in path.parts and path.name != "people.csv"]
    assert made
    assert [str(path) for path in made if path.stat().st_mode & 0o077] == []


def test_a_secret_is_not_in_what_python_says_about_it() -> None:
    program = (
        "from distributor.model.secret import Secret\n"
        "def deeper(secret):\n    text = Secret('open sesame')\n    raise ValueError(secret, text, f'{text}', repr({'a': text}))\n"
        "deeper(Secret('open ' + 'sesame'))\n"
    )
    traces = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"}
    )
    lines = [line for line in traces.stderr.splitlines() if not line.startswith("    ")]  # source lines are not values
    assert "ValueError" in lines[-1]
    assert "sesame" not in lines[-1]
    assert "sesame" not in repr(Secret("open sesame"))


def test_an_smtp_password_that_is_refused_is_not_repeated(workspace: Workspace) -> None:
    workspace.run_script(
        "$ distributor init >/dev/null 2>&1\n+ server\n+ people\n$ distributor plan certificates --roster people.csv >/dev/null 2>&1\n"
    )
    config = workspace.folder / "distributor.toml"
    text = config.read_text(encoding="utf-8")
    config.write_text(text.replace('# password = "env:SMTP_PASSWORD"', 'password = "env:SMTP_PASSWORD"'), encoding="utf-8")
    for command in ("send --yes", "doctor", "config show"):
        done = workspace.run(f"distributor {command}", SMTP_PASSWORD="open-sesame-smtp")
        assert "sesame" not in done.stdout
        assert "Traceback" not in done.stdout
