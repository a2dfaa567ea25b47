"""A mail server that repeats how we signed in: nothing of the password, whole or in part, reaches output, ledger or evidence."""

from __future__ import annotations

import base64
import hmac
import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from distributor.model.redaction import FRAGMENT, REDACTED
from tests.authority import Authority
from tests.doubles.sink import smtpd
from tests.workspace import Workspace

pytestmark = pytest.mark.slow(reason="whole commands, several in each; what they rest on is tested beside the ledger and the workflows")

WORD, NAME = "Tr0ub4dor-and-3", "certificates@example.org"
DIGEST = hmac.new(WORD.encode(), b"<1896.697170952@double.example.org>", "md5").hexdigest()
PROOFS = (
    WORD,
    base64.b64encode(WORD.encode()).decode(),
    base64.b64encode(f"\0{NAME}\0{WORD}".encode()).decode(),
    base64.b64encode(f"{NAME} {DIGEST}".encode()).decode(),
    DIGEST,
)
PLAIN, HALF = PROOFS[2], len(PROOFS[2]) // 2
COMMANDS = (
    "plan certificates --roster people.csv",
    "send --yes --json",
    "doctor",
    "history alice@example.org --json",
    "audit export --output evidence.jsonl",
)


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority) -> Iterator[Workspace]:
    made = Workspace(tmp_path / "play", authority)
    made.folder.mkdir()
    made.run_script("$ distributor init >/dev/null 2>&1\n+ people\n")
    yield made
    made.close()


@contextmanager
def signing_in_to(workspace: Workspace, mechanism: str, *rules: dict[str, object]) -> Iterator[None]:
    """The workspace signs in, over TLS, at a server with these faults."""
    place = workspace.folder.parent / "server"
    place.mkdir()
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    found = workspace.authority.issue(name="localhost", names=names, extended=(ExtendedKeyUsageOID.SERVER_AUTH,))
    chain = b"".join(each.public_bytes(Encoding.PEM) for each in found.chain)
    (place / "root.pem").write_bytes(chain)
    (place / "server.pem").write_bytes(found.pem + chain)
    (place / "server.key").write_bytes(found.key_pem())
    options = ("--tls", str(place / "server.pem"), str(place / "server.key"), "--auth", f"{NAME}:{WORD}", "--mechanisms", mechanism)
    config = workspace.folder / "distributor.toml"
    with smtpd(place, *rules, options=options) as sink:
        text = config.read_text(encoding="utf-8").replace('tls = "none"', f'tls = "starttls"\nusername = "{NAME}"')
        text = text.replace('# password = "env:SMTP_PASSWORD"', 'password = "env:SMTP_PASSWORD"').replace(
            "port = 2525", f"port = {sink.port}"
        )
        config.write_text(text, encoding="utf-8")
        yield


def outputs(workspace: Workspace) -> dict[str, str]:
    """What the commands print and leave behind, by place."""
    environment = {"SMTP_PASSWORD": WORD, "SSL_CERT_FILE": str(workspace.folder.parent / "server" / "root.pem")}
    places = {command: workspace.run(f"distributor {command}", **environment).stdout for command in COMMANDS}
    assert "Traceback" not in "".join(places.values())
    for path in workspace.folder.iterdir():
        if path.is_file() and path.name != "distributor.toml":
            places[path.name] = path.read_bytes().decode("latin-1")
    return places


def shown(places: dict[str, str]) -> list[tuple[str, str]]:
    """Where any part of a proof stands, however it is broken over lines."""
    parts = {proof[start : start + FRAGMENT].lower() for proof in PROOFS for start in range(len(proof) - FRAGMENT + 1)}
    parts -= {PLAIN[start : start + FRAGMENT].lower() for start in range(4 * len(NAME) // 3)}  # of the name alone
    plain = {place: "".join(text.lower().split()) for place, text in places.items()}
    return [(place, part) for place, text in plain.items() for part in parts if part in text]


@pytest.mark.parametrize(
    ("mechanism", "verb", "text"),
    [
        ("PLAIN", "AUTH", "500 5.5.1 unknown command 'SIGN_IN'"),
        ("LOGIN", "AUTH", f"535-5.7.8 SIGN_IN\n535 5.7.8 {WORD[:10]} is wrong, so is {WORD.upper()}"),
        ("CRAM-MD5", "MAIL", "550 5.7.1 who said SIGN_IN?"),
        ("PLAIN", "RCPT", f"550-5.1.1 before: {PLAIN[:HALF]}\n550 5.1.1 {PLAIN[HALF:]}"),
        ("LOGIN", "DOT", "250 2.0.0 queued as SIGN_IN"),
    ],
)
def test_nothing_that_a_server_repeats_of_the_sign_in_is_kept_or_shown(workspace: Workspace, mechanism: str, verb: str, text: str) -> None:
    with signing_in_to(workspace, mechanism, {"verb": verb, "do": "reply", "text": text}):
        places = outputs(workspace)
    assert "alice@example.org" in places["distributor.db"]
    assert REDACTED in places["send --yes --json"]
    assert shown(places) == []


def test_what_is_cut_out_is_only_the_sign_in(workspace: Workspace) -> None:
    """The user's own name and the server's words stay, or nobody could tell what is wrong."""
    with signing_in_to(
        workspace, "PLAIN", {"verb": "AUTH", "do": "reply", "text": f"535 5.7.8 {NAME}: SIGN_IN does not open this mailbox"}
    ):
        places = outputs(workspace)
    assert f"535 5.7.8 {NAME}: AUTH PLAIN {REDACTED} does not open this mailbox" in places["doctor"]
