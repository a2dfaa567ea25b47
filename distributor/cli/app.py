"""Runs a command line and returns its exit code: all commands, and the only place that prints errors (CLI: Exit codes)."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from distributor import __version__
from distributor.cli.help import Command, Group
from distributor.cli.options import Config
from distributor.cli.render import STDERR, STDOUT, escape, stderr_line, stop_writing
from distributor.errors import Error, ErrorGroup, Interrupted, InvalidInput, UsageError

INTERRUPTED = 130
OF_THE_WORLD = frozenset(  # errors that have their cause outside of the program
    {
        *(errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
        *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE),
        *(errno.ENOMEM, errno.EAGAIN),
    }
)

COMMANDS = {  # in the order in which --help prints them: module, function, and the name of the example there
    "init": ("init", "init", "EXAMPLE"),
    "plan": ("plan", "plan", "EXAMPLE"),
    "send": ("send", "send", "EXAMPLE"),
    "status": ("status", "status", "EXAMPLE"),
    "history": ("status", "history", "HISTORY_EXAMPLE"),
    "track": ("track", "track", "EXAMPLE"),
    "resolve": ("resolve", "resolve", "EXAMPLE"),
    "remind": ("remind", "remind", "EXAMPLE"),
    "resend": ("deliveries", "resend", "RESEND_EXAMPLE"),
    "withdraw": ("deliveries", "withdraw", "WITHDRAW_EXAMPLE"),
    "serve": ("serve", "serve", "EXAMPLE"),
    "metrics": ("status", "metrics", "METRICS_EXAMPLE"),
    "incident": ("incident", "incident", "EXAMPLE"),
    "publish": ("deliveries", "publish", "PUBLISH_EXAMPLE"),
    "self": ("self_delivery", "self_", "EXAMPLE"),
    "doctor": ("doctor", "doctor", "EXAMPLE"),
    "demo": ("demo", "demo", "EXAMPLE"),
}
GROUPS = ("password", "requests", "vault", "audit", "ledger", "trust", "intune", "templates", "config")  # each a module with an `app`


def _version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"distributor {__version__}\n")
        raise typer.Exit


def _begin(
    chosen: Config = None,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="With --version: of each library too.")] = False,
) -> None:
    """Mail S/MIME certificates to phones, deliver the passwords separately, and track what happened to each."""
    del chosen, version
    if verbose:
        raise UsageError("--verbose goes with --version here", hint="a command's own --verbose stands after its name")


def program(first: str = "") -> typer.Typer:
    """All commands; or only the command or group `first`, where there is one, since loading all takes as long as most commands."""
    app = typer.Typer(
        name="distributor",
        cls=Group,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        context_settings={"help_option_names": ["-h", "--help"]},
        epilog="\b\nexample:\n  distributor init && distributor plan certificates/ --roster people.csv && distributor send",
    )
    app.callback()(_begin)
    wanted = {first} if first in COMMANDS or first in GROUPS else {*COMMANDS, *GROUPS}
    for name in (name for name in COMMANDS if name in wanted):
        file, function, example = COMMANDS[name]
        module = import_module(f"distributor.cli.{file}")
        app.command(name, epilog=getattr(module, example), cls=Command)(getattr(module, function))
    for name in (name for name in GROUPS if name in wanted):
        group: typer.Typer = import_module(f"distributor.cli.{name}").app
        app.add_typer(group, name=name, cls=Group)
        for registered in group.registered_commands:
            registered.cls = Command
    return app


def run(arguments: Sequence[str] | None = None) -> int:
    """Run one command line and print what went wrong, in two or three lines."""
    try:
        try:
            code = _invoke(arguments)
            sys.stdout.flush()
        finally:
            _publish_checkpoints()
    except Error as error:
        return _tell(error)
    except KeyboardInterrupt:
        return _tell(Interrupted("interrupted; nothing is lost"))
    except OSError as error:
        return _system_error(error)
    except Exception as error:  # noqa: BLE001  the last line of defence: no traceback reaches a user
        return _tell(_own_fault(error))
    return code


def _publish_checkpoints() -> None:
    """At the end of whatever wrote events, also where it failed; what goes wrong here is a warning."""
    bootstrap = sys.modules.get("distributor.bootstrap")
    if bootstrap is None or not bootstrap.written:
        return
    from distributor.bootstrap.checkpoints import publish_in_child

    publish_in_child(stderr_line)


def _invoke(arguments: Sequence[str] | None) -> int:
    words = sys.argv[1:] if arguments is None else arguments
    if sorted(words) == ["--verbose", "--version"]:  # typer would answer to the one before it has read the other
        from distributor.cli.versions import lines

        sys.stdout.writelines(f"{line}\n" for line in lines())
        return 0
    command = typer.main.get_command(program(words[0] if words else ""))
    try:
        code = command.main(arguments, prog_name="distributor", standalone_mode=False, obj=run)  # `demo` runs other commands with it
    except typer.Abort:
        raise UsageError("no answer; nothing was done", hint="answer the question, or use --yes in scripts") from None
    except typer.TyperException as error:
        raise _misuse(error, _path(command, words)) from None
    except SystemExit as end:  # typer's answer to a broken pipe, whosever it was
        raise end.__context__ or end from None
    if code == INTERRUPTED:
        raise Interrupted("interrupted; nothing is lost")
    return code if isinstance(code, int) else 0


def _path(command: object, arguments: Sequence[str]) -> str:
    """The command as typed; not every usage error of typer's names it."""
    names = ["distributor"]
    for argument in arguments:
        below = getattr(command, "commands", {}).get(argument)
        if below is not None:
            command = below
            names.append(argument)
    return " ".join(names)


def _misuse(error: typer.TyperException, meant: str) -> Error:
    """A usage error of typer's in our words; the program alone, without a command, prints its help."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else meant
    text = _EXTRA.sub(_extra, error.format_message())
    if type(error).__name__ == "NoArgsIsHelpError":
        stderr_line(text)
        return UsageError("missing command", hint=f"`{path} --help` lists the commands")
    text, _, suggestion = text.partition(" Did you mean ")
    text, _, options = text.partition(" (Possible options: ")
    meant = suggestion.rstrip("?") or options.rstrip(")")
    plain = re.sub(r"'([^']*)'", r'"\1"', text).strip().rstrip(".")
    plain = re.sub(r"\s+", " ", plain)
    plain = re.sub(r'": (?:Value error, )?([A-Z]?)', lambda found: f'": {found[1].lower()}', plain, count=1)
    hint = f"did you mean {meant}? " if meant else ""
    return UsageError(plain[:1].lower() + plain[1:], hint=f"{hint}`{path} --help` shows how".replace("'", '"'))


_EXTRA = re.compile(r"Got unexpected extra argument\(s\) \((.*)\)", re.DOTALL)


def _extra(found: re.Match[str]) -> str:
    return f'unexpected argument "{found[1]}"' if " " not in found[1] else f"unexpected arguments: {found[1]}"


def _tell(error: Error) -> int:
    for line in error.faults if isinstance(error, ErrorGroup) else (error,):
        stderr_line(("" if isinstance(error, Interrupted) else "error: ") + escape(line))
    if error.hint:
        stderr_line(f"hint: {escape(error.hint)}")
    return error.exit_code


def _own_fault(error: Exception) -> Error:
    """A bug in this program: the exception's type and place, never its text, which may hold a secret."""
    import traceback  # only where there is a bug

    here = Path(__file__).parents[1]
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if here in Path(frame.filename).parents]
    place = f" in {Path(frames[-1].filename).relative_to(here)} line {frames[-1].lineno}" if frames else ""
    number = f" {errno.errorcode.get(error.errno, error.errno)}" if isinstance(error, OSError) and error.errno else ""
    return InvalidInput(
        f"internal error in distributor {__version__}: {type(error).__name__}{number}{place}",
        hint="this is a bug; nothing is lost. Please report this line: it contains no personal data",
    )


def _system_error(error: OSError) -> int:
    """An error of the operating system that nothing translated, told by what it is about."""
    if error.filename in {STDOUT, STDERR}:
        return _cannot_write(error)
    if error.errno not in OF_THE_WORLD:
        return _tell(_own_fault(error))
    reason = os.strerror(error.errno).lower()
    if error.filename is None:
        hint = "free disk space or memory, or raise this user's limits (open files, processes), then run the command again"
        return _tell(InvalidInput(f"the operating system reports: {reason}", hint=hint))
    return _tell(InvalidInput(reason, where=str(error.filename), hint="check the path, its permissions and the free space"))


def _cannot_write(error: OSError) -> int:
    """The output cannot be written. That its reader went away (`| head`) is no error."""
    stop_writing(sys.stderr if error.filename == STDERR else sys.stdout)
    if isinstance(error, BrokenPipeError):
        return 0
    if error.filename == STDERR:
        return InvalidInput.exit_code  # there is nowhere to say it
    reason = (error.strerror or "input or output failed").lower()
    opened = "distributor.ledger" in sys.modules  # `--help` and the like have done nothing that could be looked up
    hint = "the ledger has what was done: distributor status" if opened else "free some space, or write to another file"
    return _tell(InvalidInput(f"cannot write the output: {reason}", where=STDOUT, hint=hint))
