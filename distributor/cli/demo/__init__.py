"""`distributor demo`: runs the real commands for five people, with a throw-away certification authority and mail server in this process."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from distributor.cli.options import Config, Json
from distributor.errors import Error, InvalidInput, UsageError
from distributor.files import atomic

if TYPE_CHECKING:
    from datetime import datetime

    from distributor.cli.demo.fixtures import DemoMailServer
    from distributor.cli.demo.graph_double import DemoTenant

EXAMPLE = "\b\nexample:\n  distributor demo --keep playground && cd playground && distributor status"
ALICE = "alice@example.org"
REASON = "she called from her office phone"
PLAN = ("plan", "certificates/", "--roster", "people.csv", "--passwords", "passwords.csv")
REVEAL = ("password", "reveal", ALICE, "--reason", REASON, "--stdout")
SOURCES = '\n[[sources]]\nkind = "files"\npath = "certificates/"\npasswords = "passwords.csv"\nroster = "people.csv"\n'
FOLDER = '[transport]\nkind = "folder"                    # the demo\'s mail server is gone: messages become files\npath = "messages/"\n\n'
SERVER = '[transport]\nkind = "smtp"\nhost = "127.0.0.1"\nport = {port}\ntls = "none"\n\n'
NEXT = (
    "distributor status",
    "distributor history bernd@example.org",
    'distributor password reveal bernd@example.org --reason "he called"',
    'distributor resend chloe@example.org --reason "new phone"',
    "distributor audit verify",
    "distributor doctor",
)


def demo(
    context: typer.Context,
    keep: Annotated[
        Path | None, typer.Option("--keep", metavar="DIR", readable=False, help="Keep everything in DIR, as an ordinary workspace.")
    ] = None,
    graph: Annotated[bool, typer.Option("--graph", help="Send through a simulated Microsoft Graph; in a clone only.")] = False,
    chosen: Config = None,
    as_json: Json = False,
) -> int:
    """Show the whole process with five example people; needs no setup.

    It uses a temporary certification authority and a mail server inside this process. Nothing is left behind without --keep.
    """
    from distributor.cli import init
    from distributor.cli.demo import fixtures

    del chosen  # the demo makes its own
    program = _program()
    again = f"{program} demo{' --graph' if graph else ''} --keep playground"
    following = [again] if keep is None else _commands(program, keep)
    with _folder(keep) as folder, _server(graph=graph) as (server, tables), contextlib.chdir(folder), fixtures.state(keep, folder):
        output = DemoOutput(context.obj, quiet=as_json)
        output.introduction("a simulated Microsoft 365 tenant" if graph else "a mail server inside this process")
        with _all_or_nothing(folder):
            fixtures.certificates(Path(), _today())
            config = init.create(Path(), sender="certificates@example.org")
            atomic.replace_file(config, config.read_bytes() + SOURCES.encode())
            _transport(config, tables)
        answer = _run_steps(output, server)
        _transport(config, FOLDER)  # the server ends with the demo; the workspace must stay usable
        output.end(folder, following, kept=keep is not None)
    if as_json:
        from distributor.cli.render import print_json

        print_json("demo", {"folder": str(folder), **answer, "next": [command for command in following if not command.startswith("cd ")]})
    return 0


@contextlib.contextmanager
def _server(*, graph: bool) -> Iterator[tuple[DemoMailServer | DemoTenant, str]]:
    """A running server that receives the messages, and the tables of the configuration that send to it."""
    from distributor.cli.demo import fixtures, graph_double

    if graph:
        with graph_double.tenant() as found:
            yield found
    else:
        with fixtures.server() as (server, port):
            yield server, SERVER.format(port=port)


def _run_steps(output: DemoOutput, server: DemoMailServer | DemoTenant) -> dict[str, object]:
    """Run the commands in their order; the results for JSON."""
    from distributor.cli.demo import fixtures, graph_double

    output.heading("Plan", "five PFX files, their passwords, and a list of people")
    issues = output.command(*PLAN, codes=(1,)).get("issues", [])
    output.remark("Dana's certificate has her old address, which Outlook would not accept, so it is not sent. The others go on.")
    if isinstance(server, graph_double.DemoTenant):
        output.heading("Check the tenant", "sign-in and permissions; nothing is sent")
        output.command("doctor")
    output.heading("Send", "each message has a new package, whose new password is not in the message")
    output.command("send", "--yes")
    messages = _messages(server)
    output.heading("Status")
    deliveries = output.command("status").get("deliveries", [])
    output.heading("Reveal a password", "Alice calls the helpdesk; it is shown once, and recorded first")
    password = output.password()
    output.heading("On Alice's phone", "the attachment that the server received, opened with that password")
    opened = output.open_package(server.messages[ALICE], password)
    output.heading("Audit", "every event is in one hash chain, which shows any edit, removal or insertion")
    output.command("history", ALICE)
    output.command("audit", "verify")
    states = {row["address"]: row["state"] for row in deliveries}
    return {
        "people": [
            {"address": p.address, "name": p.name, "language": p.language, "state": states.get(p.address, "refused")}
            for p in fixtures.DEMO_PEOPLE
        ],
        "issues": issues,
        "letters": messages,
        "reveals": [{"address": ALICE, "password": password}],
        "opened": opened,
    }


@dataclass(slots=True)
class DemoOutput:
    """Runs commands and shows what they print, with headings between them; `quiet`: prints nothing and keeps their JSON."""

    run: Callable[[Sequence[str]], int]  # `cli.app.run`
    quiet: bool
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 10)))

    def introduction(self, server: str) -> None:
        """What the demo uses."""
        from distributor.cli.render import BOLD, coloured

        self.line(coloured("distributor: S/MIME certificates to phones", BOLD))
        self.line(f"A new certification authority, five people, and {server}.")

    def heading(self, title: str, what: str = "") -> None:
        """A numbered heading."""
        from distributor.cli.render import BOLD, DIM, coloured

        self.line()
        self.line(coloured(f"{next(self.numbers)}  {title}", BOLD) + (coloured(f"  {what}", DIM) if what else ""))

    def remark(self, text: str) -> None:
        """A comment on the output above."""
        from distributor.cli.render import wrapped

        self.line()
        self.line(wrapped(text, 0))

    def line(self, text: str = "") -> None:
        """A line on stdout, unless quiet."""
        from distributor.cli.render import stdout_line

        if not self.quiet:
            stdout_line(text)

    def command(self, *arguments: str, codes: tuple[int, ...] = ()) -> dict[str, Any]:
        """Run a command as typed; its JSON where the output is quiet."""
        from distributor.cli.render import flush

        self._typed(arguments)
        flush()
        if self.quiet:
            return self._quietly(arguments, codes)
        self._check(arguments, self._run(arguments), codes)
        return {}

    def password(self) -> str:
        """Reveal Alice's password and show it as the terminal would."""
        from distributor.cli.render import BOLD, coloured

        self._typed(REVEAL)
        with contextlib.redirect_stdout(io.StringIO()) as out:
            self._check(REVEAL, self._run(REVEAL), ())
        password = out.getvalue().strip()
        self.line(f"      {coloured(password, BOLD)}")
        return password

    def open_package(self, message: bytes, password: str) -> bool:
        """Open the attachment with the password, as a phone does."""
        from distributor.cli.demo.fixtures import open_package

        found = open_package(message, password)
        for name, value in found.items():
            self.line(f"      {name:<12}{value}")
        return bool(found)

    def end(self, folder: Path, following: Sequence[str], *, kept: bool) -> None:
        """Where the workspace is, and commands to run next."""
        from distributor.cli.render import BOLD, coloured

        self.line()
        if not kept:
            self.line("Nothing is left behind. To keep the workspace, run:")
        else:
            self.line(coloured(f"Kept in {folder}", BOLD) + ": an ordinary workspace; the messages are in messages/. Try:")
        for command in following:
            self.line(f"  {coloured(command, BOLD)}")

    def _typed(self, arguments: tuple[str, ...]) -> None:
        from distributor.cli.render import GREEN, coloured

        self.line(coloured("$ ", GREEN) + shlex.join(("distributor", *arguments)))

    def _quietly(self, arguments: tuple[str, ...], codes: tuple[int, ...]) -> dict[str, Any]:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            code = self._run((*arguments, "--json"))
        self._check(arguments, code, codes)
        found: dict[str, Any] = json.loads(out.getvalue())
        return found

    def _run(self, arguments: tuple[str, ...]) -> int:
        return self.run(["--config", "distributor.toml", *arguments])

    def _check(self, arguments: tuple[str, ...], code: int, codes: tuple[int, ...]) -> None:
        """End the demo where a command ended with another code than 0 and `codes`."""
        if code not in {0, *codes}:
            hint = "please report this, with the output above"
            raise InvalidInput(f"`distributor {' '.join(arguments)}` ended with {code}", where="demo", hint=hint)


def _program() -> str:
    """What to type to start this program again from the same folder: its name where the shell finds it, else its path."""
    import shutil

    started = Path(sys.argv[0])
    if started.name == "__main__.py":  # python -m distributor
        return f"{_near(Path(sys.executable))} -m distributor"
    found = shutil.which("distributor")
    named = started.name == "distributor" and not (found and Path(found).samefile(started))
    return _near(started.absolute()) if named else "distributor"


def _near(path: Path) -> str:
    """A path as a shell takes it, relative where it lies in this folder."""
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def _commands(program: str, keep: Path) -> list[str]:
    """Commands for the workspace that was kept: in it, or from here where the program is not found elsewhere."""
    folder = shlex.quote(str(keep))
    if program == "distributor":
        return [f"cd {folder}", *NEXT]
    return [f"{program} --config {folder}/distributor.toml {command.removeprefix('distributor ')}" for command in NEXT]


def _today() -> datetime:
    from distributor import bootstrap

    return bootstrap.now().replace(microsecond=0)


def _messages(server: DemoMailServer | DemoTenant) -> list[str]:
    """Write the messages that the server received as files; their paths."""
    folder = Path("messages")
    folder.mkdir(mode=0o700)
    names = []
    for address, message in sorted(server.messages.items()):
        path = folder / f"{address.partition('@')[0]}.eml"
        atomic.write_new(path, message)
        names.append(str(path))
    return names


def _transport(config: Path, tables: str) -> None:
    """Replace [transport] and what follows it up to [package] with these tables."""
    text = config.read_text(encoding="utf-8")
    begin, end = text.index("[transport]"), text.index("[package]")
    atomic.replace_file(config, (text[:begin] + tables + text[end:]).encode())


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    """The workspace's folder: `keep`, which must be empty, or a temporary one."""
    if keep is None:
        import tempfile

        with tempfile.TemporaryDirectory(prefix="distributor-demo-") as name:
            yield Path(name)
        return
    try:
        keep.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(keep.iterdir()):
            raise UsageError("the folder is not empty", where=str(keep), hint="choose a new folder: `distributor demo --keep DIR`")
    except OSError as error:
        raise InvalidInput(
            (error.strerror or "cannot be made").lower(), where=str(keep), hint="choose a folder that you may write to"
        ) from None
    yield keep.absolute()


@contextlib.contextmanager
def _all_or_nothing(folder: Path) -> Iterator[None]:
    """Remove the folder, which was empty before, where making the workspace fails."""
    import shutil

    try:
        yield
    except (OSError, Error) as error:
        shutil.rmtree(folder, ignore_errors=True)
        if isinstance(error, Error):
            raise
        reason = (error.strerror or "cannot be written").lower()
        raise InvalidInput(reason, where=str(folder), hint="free some space, or choose another folder with --keep") from None
