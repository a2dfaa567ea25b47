"""`distributor self`: one person's own certificate, checked, repackaged for the phone and mailed to the address in it."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, Json, Yes, can_ask, confirm
from distributor.cli.password import show_password
from distributor.cli.render import STDOUT, counted, escape, issue_row, print_json, stderr_line, stop_writing
from distributor.errors import Error, Interrupted, InvalidInput, RequestDenied, ServiceUnavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distributor.bootstrap.self_delivery import SelfMessage
    from distributor.config import Settings
    from distributor.model.attempts import Outcome
    from distributor.model.certificates import SourceMaterial
    from distributor.model.people import Address
    from distributor.workflows.self_delivery import CheckedFile, SelfSender

EXAMPLE = "\b\nexample:\n  distributor self alice.pfx"
MAY = "it may have been sent; look in your mailbox before you try again"


def self_(
    file: Annotated[Path, typer.Argument(metavar="FILE", readable=False, help="Your exported certificate with its key: .pfx or .p12.")],
    to: Annotated[
        str | None, typer.Option("--to", metavar="ADDRESS", help="Which of the addresses in the certificate, where there are several.")
    ] = None,
    password_file: Annotated[
        Path | None,
        typer.Option("--password-file", metavar="FILE", readable=False, help="Read the file's password from FILE; - for standard input."),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FILE", readable=False, help="Write the package to FILE, for AirDrop or a cable; mail nothing."),
    ] = None,
    language: Annotated[
        str | None, typer.Option("--language", metavar="TAG", help="Of the message; default: the first of organisation.languages.")
    ] = None,
    yes: Yes = False,
    stdout: Annotated[bool, typer.Option("--stdout", help="Print only the new password, for pipes.")] = False,
    as_json: Json = False,
    chosen: Config = None,
) -> int:
    """Mail your own certificate to your phone.

    Checks the file, repackages it so that every phone opens it, and mails it to the address in it, with a new password that is shown
    once. Needs [organisation], [sender] and [transport] of the configuration, and no ledger; with --save not even those.
    """
    from distributor.bootstrap import self_delivery

    if as_json and not stdout:
        raise UsageError("--json includes the new password", hint="add --stdout to print it; nothing was sent")
    if not stdout and not (sys.stdout.isatty() and sys.stdin.isatty()):
        raise UsageError("the new password is shown on a terminal only", hint="add --stdout to print it into a pipe; nothing was sent")
    settings = self_delivery.settings(chosen, sends=save is None)
    wanted = None if to is None else _address(to)
    material = _material(file, password_file, settings)
    checked = self_delivery.check(material, wanted, settings)
    _print_issues(checked)
    if not checked.requests or any(issue.severity == "error" for issue in checked.issues):
        if as_json:
            print_json("self", {"deliveries": [], "issues": [issue_row(issue) for issue in checked.issues]})
        stderr_line("nothing was sent" if save is None else "nothing was written")
        return 1
    if save is not None:
        messages = self_delivery.pack(material, checked.requests, settings, language)
        rows = [{**_row(message), "file": str(path)} for message, path in zip(messages, _save(messages, save), strict=True)]
        with _password_lost("the file that was written cannot be opened; remove it"):
            _show(messages, rows, checked, stdout=stdout, as_json=as_json)
        return 0
    return _mail(material, checked, settings, language, yes=yes, stdout=stdout, as_json=as_json)


def _address(text: str) -> Address:
    from distributor.model.people import BadAddress, parse_address

    match parse_address(text):
        case BadAddress(reason=reason, hint=hint):
            raise UsageError(reason, hint=hint)
        case address:
            return address


def _material(file: Path, password_file: Path | None, settings: Settings) -> SourceMaterial:
    """The file and its password, which is asked for when the file could be read."""
    from distributor.bootstrap import self_delivery
    from distributor.model.secret import Secret

    self_delivery.read(file, Secret(""), settings)
    if password_file is None:
        if not can_ask():
            raise UsageError("cannot ask for the file's password without a terminal", hint="add --password-file FILE, or - for stdin")
        password = getpass.getpass(f"Password of {escape(file.name)}: ", stream=sys.stderr)
    else:
        password = _first_line(password_file)
    return self_delivery.read(file, Secret(password.rstrip("\r\n")), settings)


def _first_line(path: Path) -> str:
    """The first line of a file, or of standard input where it is named `-`. Raises InvalidInput, UsageError."""
    from distributor.config.secrets import LARGEST_SECRET
    from distributor.files.reader import FileRefused, read_file

    where = "standard input" if str(path) == "-" else str(path)
    if str(path) == "-" and sys.stdin is None:  # the shell's <&-
        raise UsageError("it is closed", where=where, hint="pipe the file's password into the command, or name a file that contains it")
    try:
        data = sys.stdin.buffer.readline(LARGEST_SECRET) if str(path) == "-" else read_file(path, LARGEST_SECRET, follow=True)
        return data.decode("utf-8-sig").partition("\n")[0]
    except FileRefused as refused:
        raise InvalidInput(refused.message, where=where, hint="name a file that contains only the password") from None
    except UnicodeDecodeError:
        raise InvalidInput("not UTF-8 text", where=where, hint="save the password as plain text") from None


def _print_issues(checked: CheckedFile) -> None:
    for issue in checked.issues:
        place = f"{escape(issue.source)}: " if issue.source else ""
        stderr_line(f"{issue.severity}: {place}{escape(issue.message)}")
        if issue.hint:
            stderr_line(f"hint: {escape(issue.hint)}")


def _mail(
    material: SourceMaterial,
    checked: CheckedFile,
    settings: Settings,
    language: str | None,
    *,
    yes: bool,
    stdout: bool,
    as_json: bool,
) -> int:
    import asyncio

    from distributor import bootstrap
    from distributor.bootstrap import delivery, self_delivery
    from distributor.model.attempts import OutboundMessage
    from distributor.workflows.self_delivery import SelfSender, may_have_arrived

    address = checked.requests[0].person.address
    transport = delivery.transport(settings, tell=stderr_line)
    if not yes:
        number = counted(len(checked.requests), "message")
        confirm(f"Send {number} to {address} from {settings.sender.address} through {_server(settings)}?", "--yes")
    messages = self_delivery.pack(material, checked.requests, settings, language)
    packed = [message.packed for message in messages]
    outbound = [OutboundMessage(one.id, one.sender, str(address), one.message_id, one.message) for one in packed]
    sender = SelfSender(transport, bootstrap.now)
    try:
        asyncio.run(sender.send(outbound, packed[0].sender if settings.senders else None))
    except KeyboardInterrupt:
        if sender.unclear or any(map(may_have_arrived, sender.outcomes)):
            hint = f"{MAY}; its password is not shown any more, and the next run makes a new one"
            raise Interrupted("interrupted while the message was being sent", hint=hint) from None
        raise
    for diagnostic in sender.diagnostics:
        stderr_line(f"{diagnostic.level}: {escape(diagnostic.message)}")
        if diagnostic.hint:
            stderr_line(f"hint: {escape(diagnostic.hint)}")
    return _report(sender, messages, checked, stdout=stdout, as_json=as_json)


def _server(settings: Settings) -> str:
    """The server that the messages go to, for the question."""
    table = settings.transport
    match table.kind:
        case "smtp":
            return escape(table.values.get("host", "localhost"))
        case "graph":
            return "Microsoft Graph"
        case _:
            return f"the {table.kind} {escape(table.values.get('path', ''))}"


def _report(sender: SelfSender, messages: Sequence[SelfMessage], checked: CheckedFile, *, stdout: bool, as_json: bool) -> int:
    """Show the passwords of messages that may have arrived, and report the outcome of each."""
    from distributor.model.attempts import Accepted
    from distributor.workflows.self_delivery import may_have_arrived

    done = list(zip(messages, sender.outcomes, strict=False))  # fewer outcomes where the server could not be used
    failure = next((error for _, outcome in done if (error := _refused(outcome)) is not None), None)
    shown = [message for message, outcome in done if may_have_arrived(outcome)]
    rows = [{**_row(message), "state": _state(outcome), "said": outcome.response} for message, outcome in done]
    for message, outcome in done:
        stderr_line(f"{escape(message.request.person.address)}: {_state(outcome)}: {escape(outcome.response)}")
        if may_have_arrived(outcome) and not isinstance(outcome, Accepted):
            stderr_line(f"hint: {MAY}")
    with _password_lost("the message cannot be opened; delete it"):
        _show(shown, rows, checked, stdout=stdout, as_json=as_json)
    if failure is not None:
        raise failure
    return 0 if len(shown) == len(messages) and all(isinstance(outcome, Accepted) for _, outcome in done) else 1


@contextmanager
def _password_lost(then: str) -> Iterator[None]:
    """Where the password cannot be written, say what that means for the package. Raises InvalidInput."""
    try:
        yield
    except OSError as error:
        if error.filename != STDOUT:
            raise
        stop_writing(sys.stdout)
        why = (error.strerror or "input or output failed").lower()
        hint = f"{then}, and run the command again"
        raise InvalidInput(f"the new password cannot be written, and it is not kept: {why}", where=STDOUT, hint=hint) from None


def _state(outcome: Outcome) -> str:
    name = type(outcome).__name__
    return "not-sent" if name == "NotSent" else name.lower()


def _refused(outcome: Outcome) -> Error | None:
    """Why the message was not sent; None where it was, or may have been."""
    from distributor.model.attempts import Deferred, NotSent, Rejected

    match outcome:
        case NotSent(response, fatal=fatal):
            return fatal or ServiceUnavailable(f"the message was not sent: {response}", hint="run the command again")
        case Rejected():
            return RequestDenied("the server refused the message", hint="ask your mail administrator what its answer means")
        case Deferred():
            return RequestDenied("the server asks to try later; nothing was sent", hint="run the command again later")
    return None


def _row(message: SelfMessage) -> dict[str, object]:
    facts = message.request.facts
    return {
        "address": str(message.request.person.address),
        "certificate": {"sha256": facts.sha256, "serial": facts.serial},
        "package_sha256": message.packed.package_sha256,
        "message_id": message.packed.message_id,
    }


def _save(messages: Sequence[SelfMessage], path: Path) -> list[Path]:
    """Write each package to a new file, for its owner only: FILE, then FILE-2 and so on. Raises InvalidInput."""
    from distributor.files import atomic
    from distributor.workflows.self_delivery import attachment

    paths = [path, *(path.with_stem(f"{path.stem}-{number}") for number in range(2, len(messages) + 1))]
    for message, each in zip(messages, paths, strict=True):
        try:
            atomic.write_new(each, attachment(message.packed.message))
        except FileExistsError:
            raise InvalidInput("there is a file with this name", where=str(each), hint="name a new file: --save FILE") from None
        except OSError as error:
            why = (error.strerror or "cannot be written").lower()
            raise InvalidInput(why, where=str(each), hint="name a file in a folder that you may write to") from None
        stderr_line(f"{escape(each)}: written, for {escape(message.request.person.address)}")
    return paths


def _show(messages: Sequence[SelfMessage], rows: Sequence[dict[str, object]], checked: CheckedFile, *, stdout: bool, as_json: bool) -> None:
    """Show the password of each package once: on the terminal until Enter, or on stdout."""
    if as_json:
        passwords = {message.packed.package_sha256: message.password.reveal() for message in messages}
        deliveries = [{**row, "password": passwords.get(str(row["package_sha256"]))} for row in rows]
        print_json("self", {"deliveries": deliveries, "issues": [issue_row(issue) for issue in checked.issues]})
        return
    for number, message in enumerate(messages, 1):
        if stdout:
            sys.stdout.write(message.password.reveal() + "\n")
            sys.stdout.flush()
        else:
            of = f" ({number} of {len(messages)}: {' and '.join(message.request.facts.usages)})" if len(messages) > 1 else ""
            title = f"{message.request.person.address}{of}"
            show_password(title, message.password, "Enter it on the phone, with the hyphens.")
    if messages and not stdout:
        stderr_line("the password is not kept; if it is lost, run the command again and delete the earlier message")
