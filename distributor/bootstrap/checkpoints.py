"""Composes what checkpoints need: the key, the time-stamping authority, and the places where they are published."""

from __future__ import annotations

import logging
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from logging.handlers import SysLogHandler
from pathlib import Path
from typing import TYPE_CHECKING

from distributor import bootstrap, config
from distributor.config.audit import Destination, DestinationKind, parse_destination
from distributor.errors import Error, InvalidInput, ServiceUnavailable

if TYPE_CHECKING:
    from distributor.model.attempts import DraftRef, OutboundMessage, Outcome
    from distributor.model.checkpoints import VerifierKey
    from distributor.model.ports import Ledger
    from distributor.model.secret import Secret
    from distributor.workflows.checkpoints import Signed, Signer

KEY = "audit.key"
NAME = "checkpoint-{:012}.txt"  # sorts by the number of events
AUTHORITY_SECONDS = 20.0  # for a time stamp
SYSLOG_SECONDS = 10.0
CHILD_SECONDS = 300.0  # for signing and every destination; a mailbox with a rate limit may have to wait
_LOCAL_SYSLOG = "/dev/log"
_HINT = "distributor audit checkpoint"


# --- the key ---------------------------------------------------------------------------------------------------------


def signer(settings: config.Settings, ledger: Ledger) -> Signer:
    """The workspace's key, under the ledger's name. Raises InvalidInput where there is none or it cannot be used."""
    from distributor.model.checkpoints import ORIGIN, VerifierKey
    from distributor.pki.ed25519 import SigningKey, verify
    from distributor.workflows.checkpoints import Signer

    reference = bootstrap.checkpoint_key(settings)
    if reference.path is not None and not os.path.lexists(reference.path):
        hint = "restore your copy of it; if there never was one, make it: `distributor audit key`"
        raise InvalidInput("no key that signs checkpoints", where=str(reference.path), hint=hint)
    with bootstrap.with_location(settings):
        key = SigningKey(reference.resolve(KEY), KEY)
    return Signer(VerifierKey(ORIGIN + ledger.identity(), key.public), key.sign, verify)


def public_keys(settings: config.Settings, ledger: Ledger) -> list[VerifierKey]:
    """The public key of this workspace; none where it is elsewhere. Raises InvalidInput where it cannot be used."""
    reference = bootstrap.checkpoint_key(settings)
    if reference.path is not None and not os.path.lexists(reference.path):
        return []
    return [signer(settings, ledger).key]


def new_key() -> Secret:
    """A new private key."""
    from distributor.pki.ed25519 import make_key

    return make_key()


# --- signing ---------------------------------------------------------------------------------------------------------


def sign(settings: config.Settings, ledger: Ledger, warn: Callable[[Error], None]) -> Signed | None:
    """Sign and keep a checkpoint, with a time stamp where an authority is configured; `warn`: it gave none."""
    from distributor.workflows import checkpoints

    def stamp(note: bytes) -> bytes | None:
        try:
            return None if settings.audit.timestamp is None else time_stamp(settings.audit.timestamp, note)
        except Error as error:
            warn(error)
            return None

    return checkpoints.sign(ledger, signer(settings, ledger), stamp)


def time_stamp(url: str, message: bytes) -> bytes:
    """The token that a time-stamping authority signs for a message. Raises ServiceUnavailable."""
    import asyncio
    import ssl

    from distributor.clients.http import NoResponse
    from distributor.clients.http_connections import HttpConnections, RawResponse
    from distributor.pki import timestamps

    nonce = secrets.randbits(63)

    async def ask() -> RawResponse | NoResponse:
        connections = HttpConnections(ssl.create_default_context())
        try:
            headers = {"content-type": timestamps.REQUEST_TYPE, "accept": timestamps.REPLY_TYPE}
            return await connections.exchange("POST", url, timestamps.request(message, nonce), headers, AUTHORITY_SECONDS)
        finally:
            await connections.close()

    hint = "check `audit.timestamp`; the next checkpoint is stamped again"
    response = asyncio.run(ask())
    if not isinstance(response, RawResponse) or response.status != 200:  # noqa: PLR2004  OK
        why = response.why if isinstance(response, NoResponse) else f"the authority answered {response.status}"
        raise ServiceUnavailable(f"no time stamp: {why}", where=url, hint=hint)
    try:
        return timestamps.token(response.content, message, nonce)
    except timestamps.BadToken as error:
        raise ServiceUnavailable(f"no time stamp: {error}", where=url, hint=hint) from None


# --- publishing ------------------------------------------------------------------------------------------------------


def publish(settings: config.Settings, ledger: Ledger, signed: Signed, *, mail: bool) -> Iterator[tuple[str, Error | None]]:
    """Publish a checkpoint everywhere; each destination as configured, with what went wrong there. `mail`: by mail too."""
    for text in settings.audit.checkpoints:
        destination = parse_destination(text, settings.folder)
        if destination.kind is DestinationKind.MAIL and not mail:
            continue
        try:
            _publish(settings, ledger, signed, destination)
        except Error as error:
            yield text, error
        except OSError as error:
            reason = (error.strerror or str(error) or "input or output failed").lower()
            yield text, InvalidInput(reason, where=text, hint=f"check `audit.checkpoints`, then run `{_HINT}`")
        else:
            yield text, None


def _publish(settings: config.Settings, ledger: Ledger, signed: Signed, destination: Destination) -> None:
    match destination.kind:
        case DestinationKind.FILE:
            to_folder(Path(destination.place), signed)
        case DestinationKind.MAIL:
            _to_mailbox(settings, ledger, signed, destination.place)
        case _:
            to_syslog(destination, signed)


def to_folder(folder: Path, signed: Signed) -> None:
    """A file for each checkpoint, and one for its time stamp; what is there is never changed."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NAME.format(signed.stored.size)
    for file, data in ((path, signed.stored.note.encode()), (path.with_suffix(".tst"), signed.stored.token)):
        if data is not None:
            _write_once(file, data)


def _write_once(path: Path, data: bytes) -> None:
    from distributor.files import atomic

    part = atomic.write_atomically(path, data, 0o644)
    try:
        os.link(part, path)  # unlike a rename it fails where the name is taken
    except FileExistsError:
        if path.read_bytes() != data:
            hint = "another ledger or key uses this folder, or the file was changed; run `distributor audit verify --checkpoint FILE`"
            raise InvalidInput("is there with another content and was not changed", where=str(path), hint=hint) from None
    finally:
        part.unlink(missing_ok=True)
    atomic.sync_folder(path.parent)


class _Handler(SysLogHandler):
    """The library's handler, whose errors are not lost."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the library's name
        """Raise what went wrong."""
        del record
        raise  # noqa: PLE0704  called while an exception is handled


def to_syslog(destination: Destination, signed: Signed) -> None:
    """One line with facility auth; over TCP it ends with LF (RFC 6587 3.4.2)."""
    from distributor.model.checkpoints import compact_line

    local, tcp = destination.kind is DestinationKind.LOCAL, destination.kind is DestinationKind.TCP
    address = _LOCAL_SYSLOG if local else (destination.place, destination.port)
    line = compact_line(signed.checkpoint)
    with _socket_timeout(SYSLOG_SECONDS):
        handler = _Handler(address, SysLogHandler.LOG_AUTH, None if local else socket.SOCK_STREAM if tcp else socket.SOCK_DGRAM)
        handler.ident, handler.append_nul = "distributor: ", local
        try:
            handler.emit(logging.LogRecord("distributor", logging.INFO, "", 0, line + ("\n" if tcp else ""), None, None))
        finally:
            handler.close()


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """The handler of older Pythons takes no time-out of its own."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


class _KeepCopies:
    """Copies of these messages stay in the mailbox: they hold nothing secret."""

    def note(self, outbound: OutboundMessage, draft: DraftRef | None, outcome: Outcome) -> None:
        """Nothing is to be removed later."""


def _to_mailbox(settings: config.Settings, ledger: Ledger, signed: Signed, address: str) -> None:
    """Mail it to an auditor through the configured transport, within the limits of its mailbox. Raises ServiceUnavailable."""
    import asyncio

    from distributor.bootstrap import delivery
    from distributor.mail.message import Mailbox
    from distributor.model.attempts import Accepted, Ambiguous, OutboundMessage
    from distributor.model.people import Address, parse_address
    from distributor.workflows import checkpoints
    from distributor.workflows.sending.direct import DirectSender, DirectSendingContext

    recipient = parse_address(address)
    assert isinstance(recipient, Address)  # noqa: S101  the configuration was validated
    senders = [Mailbox(one.address, one.name) for one in settings.mailboxes]
    message_id, message = checkpoints.auditor_message(senders[0], Mailbox(recipient), signed, bootstrap.now(), secrets.token_hex(16))
    outbound = OutboundMessage(f"checkpoint-{signed.stored.size}", str(senders[0].address), address, message_id, message)
    sender = DirectSender(DirectSendingContext(ledger, delivery.transport(settings), senders, _KeepCopies(), _HINT))

    async def intend(handle: DraftRef | None = None, /) -> bool:
        del handle
        return True

    async def deliver() -> Outcome | None:
        try:
            return await sender.deliver(outbound, intend) if await sender.may_send(senders[0]) else None
        finally:
            await sender.finish()

    outcome = asyncio.run(deliver())
    if sender.error is not None:
        raise sender.error
    if not isinstance(outcome, Accepted | Ambiguous):
        said = outcome.response if outcome is not None else "not sent"
        raise ServiceUnavailable(said, where=address, hint=f"check the address, then run `{_HINT}`")


# --- after a run -----------------------------------------------------------------------------------------------------


def publish_in_child(tell: Callable[[str], object]) -> None:
    """Sign and publish checkpoints of the ledgers that got new events; `tell` gets the warnings.

    In a child process: it loads what signing needs, which a run does without.
    """
    for file in list(bootstrap.written):
        bootstrap.written.pop(file, None)
        for line in _in_child(["audit", "checkpoint", "--after-run", "--config", str(file)]):
            tell(line)


def publish_meanwhile(settings: config.Settings, ledger: Ledger, tell: Callable[[str], object]) -> None:
    """The same for a command that keeps running, where there are new events since the last checkpoint. Raises what the ledger raises."""
    if settings.audit.checkpoints:
        last = ledger.last_checkpoint()
        if ledger.position() != (last.size if last is not None else 0):
            bootstrap.written[settings.file] = settings
            publish_in_child(tell)


def _in_child(words: Sequence[str]) -> list[str]:
    """What the command says on stderr."""
    run = partial(subprocess.run, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False)
    try:
        env = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
        done = run([sys.executable, "-P", "-m", "distributor", *words], timeout=CHILD_SECONDS, text=True, errors="replace", env=env)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"warning: no checkpoint was published: {type(error).__name__}", f"hint: run `{_HINT}`"]
    return done.stderr.splitlines()
