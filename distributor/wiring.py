"""Settings -> the adapters they name, opened. The only file that knows both sides; adapters are found by name, at run time."""

from __future__ import annotations

import getpass
import importlib
import os
import pkgutil
import platform
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributor import config
from distributor.config.reading import host_defaults
from distributor.config.secrets import parse_reference
from distributor.config.settings import SourceFiles
from distributor.config.structure import Faulty, structure
from distributor.core.people import BadAddress, parse_address
from distributor.errors import Error, Misuse, Unusable

if TYPE_CHECKING:
    from distributor.core.credentials import Limits, Material, Opened, Problem
    from distributor.core.deliveries import Owner, Packed, PackJob, Scope
    from distributor.core.ports import Ledger, Pool, Transport, Vault
    from distributor.core.secret import Secret
    from distributor.flow.pack import Batch
    from distributor.flow.packer import Packer
    from distributor.flow.report import Packing
    from distributor.stationery import Stationery


PACK_SECONDS = 20.0  # for one letter, beside what opening its file may take
CHILD_MEMORY = 2**30  # bytes of address space of a child process
EARLY = 2  # children that are started before there is anything to do


def now() -> datetime:
    """The clock of the whole program."""
    return datetime.now(UTC)


def settings(chosen: Path | None) -> config.Settings:
    """The configuration that counts."""
    return config.read(config.find(chosen), Rooms())


UNTOUCHING = frozenset({("transports", "smtp")})  # it connects later; a folder would be made


class Rooms:
    """The adapters that are there."""

    def kinds(self, room: str) -> tuple[str, ...]:
        """The public modules of a room."""
        package = importlib.import_module(f"distributor.{room}")
        return tuple(sorted(found.name for found in pkgutil.iter_modules(package.__path__) if not found.name.startswith("_")))

    def settings(self, room: str, kind: str) -> type[Any]:
        """What a table may hold: an adapter's settings, or for `[[sources]]` what a plan takes."""
        if (room, kind) == ("sources", "files"):
            return SourceFiles
        chosen: type[Any] = adapter(room, kind).Settings
        return chosen

    def fault(self, room: str, kind: str, settings: object) -> Error | None:
        """What an adapter that opens without touching anything has against its settings."""
        if (room, kind) in UNTOUCHING:
            try:
                adapter(room, kind).open(settings)
            except Error as error:
                return error
        return None


def adapter(room: str, kind: str) -> Any:  # noqa: ANN401  a module, found by name
    """The module of an adapter."""
    if kind not in Rooms().kinds(room):
        raise Unusable(f'this version has no {room} "{kind}"', hint=f"there is: {', '.join(Rooms().kinds(room))}")
    return importlib.import_module(f"distributor.{room}.{kind}")


# --- the ledger ----------------------------------------------------------------------------------------------------


@contextmanager
def reading(settings: config.Settings) -> Iterator[Ledger]:
    """The ledger, to look into."""
    with closing(_ledger(settings, create=False)) as ledger:
        yield ledger


@contextmanager
def writing(settings: config.Settings) -> Iterator[Ledger]:
    """The ledger, to write into; passwords whose time is over are destroyed first. On a server, an empty database becomes one."""
    with closing(_ledger(settings, create=not settings.ledger.url.startswith("sqlite"))) as ledger:
        ledger.expire()
        yield ledger


def _ledger(settings: config.Settings, *, create: bool) -> Ledger:
    from distributor.ledger import open_ledger

    return open_ledger(ledger_url(settings), by=who(), now=now, create=create)


def ledger_url(settings: config.Settings) -> str:
    """The database URL with a SQLite path made absolute."""
    kind, slashes, path = settings.ledger.url.partition(":///")
    if kind.startswith("sqlite") and slashes and not path.startswith("/"):
        return f"{kind}:///{settings.folder / path}"
    return settings.ledger.url


def create_ledger(path: Path) -> None:
    """A new, empty ledger in a file."""
    from distributor.ledger import open_ledger

    open_ledger(f"sqlite:///{path.absolute()}", by=who(), now=now, create=True).close()


def who() -> str:
    """Who writes into the ledger: user and machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        user = "unknown"
    return f"{user}@{platform.node() or 'localhost'}"


# --- what people type ----------------------------------------------------------------------------------------------


def address_key(text: str) -> str:
    """How the ledger knows an address that was typed."""
    match parse_address(text):
        case BadAddress(reason=reason, hint=hint):
            raise Misuse(reason, hint=hint)
        case address:
            return address.key


def reason(text: str) -> str:
    """A reason that says something."""
    if not text.strip():
        raise Misuse("--reason is empty", hint="say why; it is kept in the ledger")
    return text.strip()


# --- letters and their road ----------------------------------------------------------------------------------------


def transport(settings: config.Settings, *, signed_in: bool = True) -> Transport:
    """The letter's road; not connected yet. Not `signed_in`: for questions that need no secret."""
    table = settings.transport
    module = adapter("transports", table.kind)
    values = {**host_defaults(table.kind, table.values), **table.values}
    if "password" in values:
        values.setdefault("username", str(settings.sender.address))
    try:
        shaped = structure(
            module.Settings,
            values,
            table.key,
            settings.folder,
            (lambda reference: reference.resolve("transport.password")) if signed_in else None,
        )
    except Faulty as faulty:
        first = faulty.faults[0]
        raise Unusable(first.message, where=first.key, hint=first.hint) from None
    opened: Transport = module.open(shaped)
    return opened


@contextmanager
def packers(settings: config.Settings) -> Iterator[Pool[PackJob, Packed | Problem]]:
    """Child processes that make letters. They load what they need while the ledger is opened."""
    from distributor.workers import Made, Workers

    tables = (settings.organisation, settings.sender, settings.package, settings.password, settings.limits)
    made = Made(packer, (settings.folder, settings.vault.recipients, *tables))
    workers: Workers[PackJob, Packed | Problem]
    workers = Workers(made, cores(), settings.limits.open_seconds + PACK_SECONDS, CHILD_MEMORY, early=EARLY)
    with workers as pool:
        yield pool


def packer(  # noqa: PLR0913, PLR0917  the tables it needs and no other: it works beside hostile files
    folder: Path,
    recipients: tuple[str, ...],
    organisation: config.Organisation,
    sender: config.Sender,
    package: config.Package,
    password: config.Password,
    limits: Limits,
) -> Packer:
    """What makes a letter; made in each child, since it is heavy to load."""
    from distributor.core.letter import Mailbox
    from distributor.flow.packer import Packer
    from distributor.ledger.vault import seal
    from distributor.stationery import Stationery

    return Packer(
        words=Stationery(folder, organisation.languages),
        seal=seal(recipients),
        organisation=organisation.name,
        sender=Mailbox(sender.address, sender.name),
        channel=password.channel,
        expires=password.expires,
        profile=str(package.profile),
        include_root=package.include_root,
        recipe=password.recipe,
        limits=limits,
    )


def packing(  # noqa: PLR0913, PLR0917  the doors of a verb
    settings: config.Settings, ledger: Ledger, pool: Pool[PackJob, Packed | Problem], owner: Owner, scope: Scope, limit: int | None
) -> Packing:
    """The verb that freezes letters, with everything it needs."""
    from distributor import intake
    from distributor.flow.pack import pack

    def run(stop: Callable[[], bool]) -> Iterator[Batch]:
        doors, lease = partial(intake.open_plan, settings), settings.ledger.lease
        yield from pack(ledger, doors, pool, owner=owner, lease=lease, scope=scope, limit=limit, now=now, stop=stop)

    return run


@contextmanager
def opening(settings: config.Settings) -> Iterator[Pool[Material, Opened]]:
    """Child processes that look into certificates' files."""
    from distributor.core.opening import open_material
    from distributor.workers import Workers

    call = partial(open_material, limits=settings.limits)
    with Workers(call, cores(), settings.limits.open_seconds, CHILD_MEMORY, early=EARLY) as pool:
        yield pool


def cores() -> int:
    """How many processes may run at once."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def stationery(settings: config.Settings) -> Stationery:
    """The words of letters: the workspace's templates, then the packaged ones."""
    from distributor.stationery import Stationery

    return Stationery(settings.folder, settings.organisation.languages)


# --- the vault -----------------------------------------------------------------------------------------------------


def new_identity() -> tuple[Secret, str]:
    """A new pair of keys: what opens passwords, and what seals them."""
    from distributor.ledger.vault import make_identity

    return make_identity()


def vault(settings: config.Settings) -> Vault:
    """What opens passwords here. Raises Unusable when it is missing, or would not open what this configuration seals."""
    from distributor.ledger.vault import Vault as Age

    if settings.vault.identity is None:
        raise Unusable("missing", where="vault.identity", hint="reveal passwords where the identity is, or name it here: file:vault.key")
    opened = Age(settings.vault.identity.resolve("vault.identity"))
    if not set(opened.recipients) & set(settings.vault.recipients):
        hint = "use the identity that belongs to `vault.recipients`"
        raise Unusable("this identity opens nothing that is sealed for vault.recipients", where="vault.identity", hint=hint)
    return opened


def private_files(settings: config.Settings) -> list[Path]:
    """Files that only their owner may read: the ledger, and every file that a secret lies in."""
    kind, _, ledger = ledger_url(settings).partition(":///")
    references = [settings.vault.identity, *_references(settings)]
    files = [reference.path for reference in references if reference is not None]
    return [path for path in (Path(ledger) if kind.startswith("sqlite") else None, *files) if path is not None]


def _references(settings: config.Settings) -> list[config.SecretRef]:
    texts = [value for table in (settings.transport, *settings.sources) for value in table.values.values() if isinstance(value, str)]
    return [parse_reference(text, settings.folder) for text in texts if text.startswith(("file:", "cred:"))]
