"""`distributor init`: makes a workspace (distributor.toml, the ledger and the vault's key), or the ledger that one lacks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.options import Config, make_folder
from distributor.cli.render import escape, stderr_line, stdout_line
from distributor.errors import InvalidInput, RequestDenied, UsageError
from distributor.files import atomic

if TYPE_CHECKING:
    from distributor.config import Settings


EXAMPLE = (
    "\b\nexamples:\n  distributor init mailing && cd mailing\n  distributor init --smtp smtp.office365.com\n  distributor init --graph"
)


def init(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", readable=False, show_default=False, help="Folder of the workspace; default: here.")
    ] = Path(),
    smtp: Annotated[str | None, typer.Option("--smtp", metavar="HOST", help="Send through this SMTP server: HOST or HOST:PORT.")] = None,
    graph: Annotated[bool, typer.Option("--graph", help="Send through Exchange Online (Microsoft Graph).")] = False,
    chosen: Config = None,
) -> None:
    """Create a workspace: configuration, ledger and vault key.

    If only the ledger is missing, only the ledger is created. Existing files are never overwritten.
    """
    from distributor.cli.init_transport import GRAPH, LOCAL, smtp_table

    if smtp is not None and graph:
        raise UsageError("--smtp and --graph exclude each other", hint="use one of them; [transport] can be changed later")
    transport = GRAPH if graph else LOCAL if smtp is None else smtp_table(smtp)
    config = chosen if chosen is not None and folder == Path() else folder / CONFIG
    if smtp is None and not graph and config.is_file() and (settings := complete(config)):
        _completed(config, settings)
        return
    create(folder, transport=transport)
    for name, what in (
        (CONFIG, "configuration; its comments say what to change"),
        (LEDGER, "ledger, empty"),
        (KEY, "vault key, opens the passwords: keep a copy in a safe place"),
        (CHECKPOINT_KEY, f"signs checkpoints of the audit log; public key for auditors: {public_key(folder / CONFIG)}"),
    ):
        stdout_line(f"{escape(folder / name)}  {what}")
    _next(folder, f"edit {CONFIG}, then distributor doctor")


def _completed(config: Path, settings: Settings) -> None:
    """What was made, and what was not."""
    from distributor import bootstrap

    identity, ledger = settings.vault.identity, bootstrap.ledger_file(settings) or "ledger.url"
    stdout_line(f"{escape(config)}  configuration, unchanged")
    stdout_line(f"{escape(ledger)}  ledger, new and empty: it does not know what was sent before")
    if identity is not None and identity.path is not None and not os.path.lexists(identity.path):
        stderr_line(f"warning: {escape(identity.path)} is missing; a new key would open none of the passwords sealed so far")
        stderr_line("hint: restore your copy")
    stderr_line("if you have a backup of the ledger, restore it before sending: it knows who already has a message")
    stderr_line("hint: see docs/restore.md#restore-step-by-step")
    _next(config.parent, "distributor doctor")


def _next(folder: Path, what: str) -> None:
    elsewhere = "" if folder.resolve() == Path.cwd() else f"cd {escape(folder)}; "
    stderr_line(f"next: {elsewhere}{what}")


CONFIG, LEDGER, KEY, CHECKPOINT_KEY = "distributor.toml", "distributor.db", "vault.key", "checkpoint.key"

TEMPLATE = """\
# distributor: S/MIME certificates to phones. `distributor config show` prints the values in effect and where each comes from.

[organisation]
name = "{organisation}"
# helpdesk = {{name = "IT Service", phone = "+49 30 1234567", hours = "Mon-Fri 8-17", url = ""}}   # shown in messages
languages = ["en", "de", "fr"]     # of the messages; the first is the default

[sender]
address = "{sender}"
name = "Certificate Service"

{transport}
# [[senders]]                      # more mailboxes that send in parallel, each with its own rate limit
# address = "certificates2@example.org"

[package]
profile = "phone"                  # phone (opens on every phone) | modern (AES; not on older phones)
# include_root = false

[password]
channel = "reveal"                 # read out by the helpdesk: distributor password reveal ADDRESS
                                   # letter (printed: distributor password letters) | mail (to another mailbox of the person)
# to = "alternate_email"           # where channel "mail" sends them: this column of the roster, or "manager"
expires = "14d"

[vault]
recipients = ["{recipient}"]
identity = "file:vault.key"        # needed only where passwords are revealed; keep a copy, without it no password can be opened

[ledger]
url = "sqlite:///distributor.db"   # or postgresql+psycopg://... for several machines
# lease = "60s"

# [limits]                         # for each incoming file
# file = "1MiB"
# archive = "512MiB"
# iterations = 2000000
# open_seconds = 10

# [[sources]]                      # where `plan` (without SOURCE) and `resend` read certificates
# kind = "files"
# path = "certificates/"
# passwords = "passwords.csv"
# roster = "people.csv"

# [[rosters]]                      # people from the directory (Microsoft Graph)
# kind = "graph"
# group = "..."                    # or kind = "ldap": url, base, bind, password

# [trust]                          # what Exchange Online trusts; `plan` checks each certificate's chain and revocation
# collection = "collection.sst"

# [[directories]]                  # where `distributor publish` writes certificates, so that others can encrypt to their owners
# kind = "ldap"                    # ldap | folder
# url = "ldaps://ldap.example.org"
# base = "dc=example,dc=org"
# bind = "cn=writer,dc=example,dc=org"
# password = "env:LDAP_PASSWORD"

# [[trackers]]                     # services that know whether messages arrived, for `distributor track` and `resolve`
# kind = "trace"                   # the message trace of Exchange Online; or "graph", "imap": a mailbox (see docs/tracking.md#trackers)

# [portal]                         # `distributor serve`: people get their passwords themselves (see docs/portal.md#register-it-at-entra)
# url = "https://certificates.example.org"
# authority = "https://login.microsoftonline.com/TENANT/v2.0"   # or any other OpenID Connect provider
# client_id = "..."
# secret = "file:portal.secret"
# administrators = ["object id of a person or group"]           # helpdesk and auditors likewise
# requests = "approve"             # for another copy: approve (by an administrator) | automatic

# [audit]                          # signed checkpoints of the audit log, for an auditor (see docs/audit.md#checkpoints)
# checkpoints = ["file:/mnt/audit/checkpoints/", "syslog", "mail:auditor@example.org"]   # published after each command that wrote events
# timestamp = "https://timestamp.example.org"                   # a time-stamping authority (RFC 3161)
# key = "file:checkpoint.key"

# [metrics]                        # for Prometheus (see docs/deploy.md#metrics)
# file = "/var/lib/prometheus/node-exporter/distributor.prom"   # written by `send --follow` every minute
# token = "file:metrics.token"     # the portal answers /metrics to who has it

# [requests]                       # by mail, read by a tracker (see docs/requests-by-mail.md#before-you-switch-it-on)
# by_mail = true
# authserv_id = "mx.example.org"
"""


def create(
    folder: Path, *, organisation: str = "Example AG", sender: str = "certificates@example.org", transport: str | None = None
) -> Path:
    """Create a workspace and return its configuration; raises RequestDenied when there is one, and leaves nothing behind on failure."""
    from distributor import bootstrap
    from distributor.bootstrap import checkpoints
    from distributor.cli.init_transport import LOCAL
    from distributor.model.people import escape_unsafe

    if escape_unsafe(str(folder.absolute())) != str(folder.absolute()):
        raise InvalidInput("the folder's name has unprintable characters", where=str(folder), hint="choose another folder")
    _refuse_empty(folder / LEDGER)
    with _all_or_nothing(folder) as made:
        for name in (CONFIG, LEDGER, KEY, CHECKPOINT_KEY):
            if os.path.lexists(folder / name):
                raise RequestDenied(
                    "already exists; nothing is overwritten", where=str(folder / name), hint="choose another folder: `distributor init DIR`"
                )
        bootstrap.refuse_lost(folder / LEDGER)
        identity, recipient = bootstrap.new_identity()
        made.append(_write(folder / KEY, identity.reveal()))
        made.append(_write(folder / CHECKPOINT_KEY, checkpoints.new_key().reveal()))
        bootstrap.create_ledger(folder / LEDGER)
        made.append(folder / LEDGER)
        made.append(
            _write(
                folder / CONFIG,
                TEMPLATE.format(organisation=organisation, sender=sender, recipient=recipient, transport=transport or LOCAL),
            ),
        )
    return folder / CONFIG


def public_key(config: Path) -> str:
    """The public key that a workspace's checkpoints are verified with."""
    from distributor import bootstrap
    from distributor.bootstrap.checkpoints import signer

    settings = bootstrap.settings(config)
    with bootstrap.open_for_reading(settings) as ledger:
        return str(signer(settings, ledger).key)


def complete(config: Path) -> Settings | None:
    """Make the ledger that a workspace lacks and return its settings; None where it has one. Raises RequestDenied beside a lost one's log.

    Nothing else is made: a new key could not open what was sealed for the first one.
    """
    from distributor import bootstrap

    try:
        settings = bootstrap.settings(config)
    except InvalidInput:
        return None
    ledger = bootstrap.ledger_file(settings)
    if ledger is None:  # on a server
        if bootstrap.has_ledger(settings):
            return None
        bootstrap.make_ledger(settings)
        return settings
    if os.path.lexists(ledger):
        _refuse_empty(ledger)
        return None
    for log in (f"{ledger}-wal", f"{ledger}-journal"):  # SQLite would take it for the new ledger's
        if os.path.lexists(log):
            hint = f"restore {ledger.name} next to it, or move it away"
            raise RequestDenied("belongs to a missing ledger, so no new one is created", where=log, hint=hint)
    bootstrap.refuse_lost(ledger)
    with _all_or_nothing(ledger.parent) as made:
        bootstrap.make_ledger(settings)
        made.append(ledger)
    return settings


def _refuse_empty(ledger: Path) -> None:
    """Raise InvalidInput where the file is empty: it may be a ledger that was lost, which a new one would hide."""
    if ledger.is_file() and not ledger.stat().st_size:
        hint = "restore a backup (see docs/restore.md#an-empty-or-missing-ledger); if it never was a ledger, move it away and try again"
        raise InvalidInput("is empty (0 bytes) and is not overwritten: it may have been a ledger", where=str(ledger), hint=hint)


@contextmanager
def _all_or_nothing(folder: Path) -> Iterator[list[Path]]:
    new_folders = [place for place in (folder, *folder.parents) if not place.exists()]
    made: list[Path] = []
    try:
        make_folder(folder)
        yield made
    except BaseException:
        for path in made:
            for leftover in (path, *path.parent.glob(f"{path.name}-*")):  # SQLite's journal
                leftover.unlink(missing_ok=True)
        for place in new_folders:
            if place.is_dir() and not any(place.iterdir()):
                place.rmdir()
        raise


def _write(path: Path, text: str) -> Path:
    """Create a file with mode 0600."""
    try:
        atomic.write_new(path, text.encode())
    except OSError as error:
        hint = "free some space, or choose a folder that you may write to"
        raise InvalidInput((error.strerror or "cannot be written").lower(), where=str(path), hint=hint) from None
    return path
