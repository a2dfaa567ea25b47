"""The documents tell the truth: links and hints lead to sections that exist, commands and options exist, and what can be run here runs."""

from __future__ import annotations

import ast
import base64
import re
import shlex
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from distributor.cli.app import program
from distributor.clients.client_certificate import load_signing_key
from distributor.model import high_water_mark
from distributor.model.secret import Secret
from tests.authority import Authority
from tests.doubles.pki import Server, root, server
from tests.needs import require
from tests.workspace import PASSWORD, Workspace

ROOT = Path(__file__).parents[2]
PAGES = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
}
SLOW = pytest.mark.slow(reason="whole commands, several in each")
REFERENCE = re.compile(r"(see )?(docs/[\w-]+\.md)(?:#([\w-]+))?")
COMMAND = re.compile(r"`(distributor [^`]+)`")


def anchors(page: str) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page, flags=re.DOTALL), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def blocks(page: str, language: str) -> list[str]:
    """The code blocks of a page in that language, without indentation."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", PAGES[page], re.DOTALL | re.MULTILINE)
    return ["\n".join(line.removeprefix(indent) for line in text.splitlines()) for indent, text in found]


def runnable(page: str) -> list[str]:
    """The command lines of a page's shell blocks, in order."""
    return [line for block in blocks(page, "sh") for line in block.splitlines()]


# --- links and hints ---------------------------------------------------------------------------------------------------


def links() -> Iterator[tuple[str, str, str]]:
    for name, page in PAGES.items():
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", page):
            yield name, target, anchor


def test_every_link_between_documents_leads_to_a_section_that_exists() -> None:
    assert len(list(links())) > len(PAGES)
    for name, target, anchor in links():
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), f"{name}: {target}"
        if anchor:
            assert anchor in anchors(path.read_text(encoding="utf-8")), f"{name}: {target}#{anchor}"


def texts() -> Iterator[tuple[str, str]]:
    """Every string of the product that is no docstring, with the place of the file; values in it are `VALUE`."""
    for path in sorted((ROOT / "distributor").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parts = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                parts.add(id(node.value))  # a docstring
            elif isinstance(node, ast.JoinedStr):
                yield path.name, "".join(part.value if isinstance(part, ast.Constant) else "VALUE" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
                yield path.name, node.value


def test_every_document_that_a_hint_names_has_that_section() -> None:
    named = [(place, found) for place, text in texts() for found in REFERENCE.finditer(text)]
    assert {found[2] for _, found in named} >= {"docs/restore.md", "docs/trust.md", "docs/exchange-online.md", "docs/certificates.md"}
    for place, found in named:
        see, page, anchor = found.groups()
        assert see, f'{place}: write "see {found[0]}"'
        assert page in PAGES, f"{place}: {page}"
        assert anchor in anchors(PAGES[page]), f"{place}: {found[0]}"


def test_the_error_that_the_restore_page_shows_has_the_hint_of_the_program() -> None:
    assert f"hint: {high_water_mark.HINT}\n" in PAGES["docs/restore.md"]


# --- commands ----------------------------------------------------------------------------------------------------------


def fault(line: str) -> str | None:
    """What a command line has that the program does not know; None: nothing."""
    words = [word.strip("[]") for word in shlex.split(line.replace("\\|", " "), comments=True)][1:]
    found: Any = typer.main.get_command(program())
    options = {name for each in found.params for name in each.opts}
    while words and words[0] in getattr(found, "commands", {}):
        found = found.commands[words.pop(0)]
        options |= {name for each in found.params for name in (*each.opts, *each.secondary_opts)}
    if getattr(found, "commands", None) and words and not words[0].startswith("-"):
        return f"no command {words[0]}"
    wrong = [word for word in words if word.startswith("-") and word.partition("=")[0] not in options | {"-h", "--help"}]
    return f"no option {wrong[0]}" if wrong else None


def test_a_command_that_does_not_exist_is_found() -> None:
    assert fault("distributor trust nonsense") == "no command nonsense"
    assert fault("distributor send [--nonsense]") == "no option --nonsense"
    assert fault('distributor ledger adopt --nothing-sent --reason "moved"  # --why') is None


@pytest.mark.parametrize("page", [name for name in PAGES if name != "docs/certificates.md"])
def test_every_command_in_a_document_exists_with_its_options(page: str) -> None:
    lines = [line.strip() for line in PAGES[page].splitlines() if line.strip().startswith("distributor ")] + COMMAND.findall(PAGES[page])
    assert lines
    assert [(line, wrong) for line in lines if (wrong := fault(line))] == []


def test_every_command_in_a_hint_exists_with_its_options() -> None:
    lines = {line for _, text in texts() for line in COMMAND.findall(text) if not line.startswith("distributor VALUE")}
    assert len(lines) > 20
    assert [(line, wrong) for line in sorted(lines) if (wrong := fault(line))] == []


# --- blocks that run ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "by"),
    [
        ("docs/exchange-online.md", "--graph"),
        ("docs/exchange-online.md", "--smtp smtp.office365.com"),
        ("docs/trust.md", ""),
        ("docs/portal.md", ""),
        ("docs/vault.md", ""),
        ("docs/passwords.md", ""),
    ],
)
def test_the_tables_in_a_document_are_accepted(page: str, by: str, tmp_path: Path, authority: Authority) -> None:
    workspace = Workspace(tmp_path, authority)
    assert workspace.run(f"distributor init {by}").returncode == 0
    config = tmp_path / "distributor.toml"
    base = config.read_text(encoding="utf-8")
    tables = blocks(page, "toml")
    assert tables
    for block in tables:
        kept = base
        for name in re.findall(r"^\[(\w+)\]$", block, re.MULTILINE):  # the block's stands for the one that `init` wrote
            kept = re.sub(rf"^\[{name}\]\n.*?(?=^\[|\Z)", "", kept, flags=re.DOTALL | re.MULTILINE)
        whole = re.sub(r"(?m)^# (?=[a-z_]+ = )", "", block)  # also what is commented out
        whole = whole.replace("…", "00000000-0000-0000-0000-000000000000")
        config.write_text(f"{kept}\n{whole}\n", encoding="utf-8")
        done = workspace.run("distributor config show", LDAP_PASSWORD="p")
        assert done.returncode == 0, f"{block}\n{done.stdout}"


@pytest.fixture
def site() -> Iterator[Server]:
    with server() as made:
        yield made


@SLOW
def test_the_commands_of_the_trust_page_run(tmp_path: Path, authority: Authority, site: Server) -> None:
    top = root()
    issuer = top.sub("Example Mail CA", crl=f"{site.url}/root.crl")
    site.put("/root.crl", top.crl())
    site.put("/mail.crl", issuer.crl())
    workspace = Workspace(tmp_path, authority)
    assert workspace.run("distributor init").returncode == 0
    with (tmp_path / "distributor.toml").open("a", encoding="utf-8") as config:
        config.write('\n[trust]\ncollection = "collection.sst"\nprivate_addresses = true\n')
    (tmp_path / "root.pem").write_bytes(_pem(top.der))
    for folder in ("intermediates", "certificates"):
        (tmp_path / folder).mkdir()
    (tmp_path / "intermediates" / "mail.pem").write_bytes(_pem(issuer.der))
    (tmp_path / "certificates" / "alice.pfx").write_bytes(issuer.person("alice@example.org", crl=f"{site.url}/mail.crl").pfx(PASSWORD))
    (tmp_path / "certificates" / "alice.txt").write_text(PASSWORD, encoding="utf-8")
    lines = runnable("docs/trust.md")
    assert [line.split()[2] for line in lines] == ["export", "check", "runbook", "check"]
    for line in lines:
        done = workspace.run(line)
        assert done.returncode == 0, f"{line}\n{done.stdout}"
        if "runbook" in line:  # what it saves when it is run
            script = (tmp_path / "upload.ps1").read_text(encoding="ascii")
            assert "Set-Content -LiteralPath 'tenant.txt'" in script
            (tmp_path / "tenant.txt").write_bytes(base64.b64encode((tmp_path / "collection.sst").read_bytes()))
    assert "tenant: 2 in both, 0 only in this collection, 0 only in the tenant's" in done.stdout


def _pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(der) + b"-----END CERTIFICATE-----\n"


@SLOW
def test_the_commands_of_the_restore_page_run(sent: Workspace) -> None:
    require("sqlite3")
    lines = runnable("docs/restore.md")
    put_back = re.search(r"`(cp backup\.db [^`]*)`", PAGES["docs/restore.md"])
    assert put_back is not None
    backup, move, look, adopt = lines
    later = 'distributor resend alice@example.org --reason "after the backup" --yes'
    for line in (backup, later, move, look, put_back[1], "distributor audit verify", adopt):
        done = sent.run(line)
        assert done.returncode == int(line == "distributor audit verify"), f"{line}\n{done.stdout}"  # it is an older copy
    assert sent.run("distributor status").stdout.startswith("2 accepted\n")


@SLOW
def test_what_the_helpdesk_types_works(sent: Workspace) -> None:
    found = [line for line in COMMAND.findall(PAGES["docs/helpdesk.md"]) if "ADDRESS" in line]
    asked = {"reveal": " --stdout", "resend": " --yes"}  # here is no terminal
    assert len(found) > len(asked)
    for line in found:
        more = next((flag for word, flag in asked.items() if word in line), "")
        done = sent.run(line.replace("ADDRESS", "alice@example.org") + more)
        assert done.returncode == (1 if "incident" in line else 0), f"{line}\n{done.stdout}"  # her key has left: a person must act
    assert "incident" in line
    assert "To the CA:" in (sent.folder / "revoke.txt").read_text(encoding="utf-8")


@SLOW
def test_the_commands_of_the_vault_page_run(sent: Workspace) -> None:
    lines = runnable("docs/vault.md")
    assert len(lines) == 4
    for line in lines:
        done = sent.run(line)
        assert done.returncode == 0, f"{line}\n{done.stdout}"


def test_the_redirect_uri_in_the_documents_is_that_of_the_portal() -> None:
    sign_in = pytest.importorskip("distributor.portal.sign_in", reason="there is no portal yet")
    for page in ("docs/portal.md", "docs/deploy.md"):
        assert sign_in.CALLBACK in PAGES[page]
        assert "/callback" not in PAGES[page]


@SLOW
def test_the_first_run_of_the_exchange_page_works(planned: Workspace) -> None:
    check, pilot = (line for line in runnable("docs/exchange-online.md") if line.startswith("distributor "))
    assert planned.run(check).returncode == 0
    done = planned.run(pilot.partition("#")[0].replace("you@example.org", "alice@example.org") + " --yes")
    assert (done.returncode, "1 message accepted" in done.stdout) == (0, True), done.stdout


def test_the_app_certificate_made_by_the_exchange_page_is_one(tmp_path: Path, authority: Authority) -> None:
    require("openssl")
    done = Workspace(tmp_path, authority).run(blocks("docs/exchange-online.md", "sh")[0])
    assert done.returncode == 0, done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["app.crt", "app.pem"]
    text = (tmp_path / "app.pem").read_text(encoding="ascii")
    assert load_signing_key(Secret(text), None, datetime.now(UTC)).certificate.not_valid_after_utc > datetime.now(UTC)
