"""The composition root: reads the configuration, loads the adapters that it names, opens the ledger and the vault.

Adapters are imported when they are needed, by the module names of `adapters.REGISTRY`.
"""

from __future__ import annotations

import getpass
import importlib
import os
import platform
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, cast, overload

from distributor import adapters, config
from distributor.config.converter import ConfigErrors, structure
from distributor.config.schema import SourceFiles
from distributor.config.secrets import parse_reference
from distributor.errors import Error, InvalidInput, NoLedger, UsageError
from distributor.model.people import BadAddress, parse_address

if TYPE_CHECKING:
    from collections.abc import Callable

    from distributor.model.certificates import PublicDirectory
    from distributor.model.mailboxes import MailboxReader
    from distributor.model.people import Directory
    from distributor.model.ports import Ledger, Tracker, Transport
    from distributor.model.resealing import VaultIdentity
    from distributor.model.secret import Secret

Port = TypeVar("Port", covariant=True)  # noqa: PLC0105  the shorter name says it


class AdapterModule(Protocol[Port]):
    """The module of an adapter, which implements the port of its family."""

    @property
    def Settings(self) -> type[Any]:  # noqa: N802  the name of a class
        """A frozen dataclass: the keys of the adapter's table."""
        ...

    @property
    def open(self) -> Callable[..., Port]:
        """Makes the adapter of its settings and of what its family needs besides; connects to nothing yet. Raises InvalidInput."""
        ...


if TYPE_CHECKING:

    class TransportModule(AdapterModule[Transport], Protocol):
        """The module of a transport. Commands that send nothing check its settings without the imports that sending needs."""

        @property
        def check_settings(self) -> Callable[[Any], None]:
            """Raises InvalidInput for settings that `open` would refuse."""
            ...


def now() -> datetime:
    """The clock of the whole program."""
    return datetime.now(UTC)


def settings(chosen: Path | None, optional: Collection[str] = ()) -> config.Settings:
    """The configuration: the file that `--config` named, or the first one found. `optional`: required tables that may be missing."""
    return config.read(config.find(chosen), AdapterRegistry(), optional)


OPEN_TOUCHES_FILES = frozenset({("transports", "folder"), ("sources", "files")})  # the others do nothing until they connect


class AdapterRegistry:
    """The adapters of this version, as the configuration asks for them."""

    def kinds(self, family: str) -> tuple[str, ...]:
        """The kinds that a table of this family may name; a CSV roster is named on the command line or in `[[sources]]`."""
        return tuple(name for name in sorted(adapters.REGISTRY[family]) if (family, name) != ("rosters", "csv"))

    def settings(self, family: str, kind: str) -> type[Any]:
        """The dataclass of an adapter's table; for `[[sources]]` that of a plan's sources."""
        return SourceFiles if (family, kind) == ("sources", "files") else load_adapter(family, kind).Settings

    def fault(self, family: str, kind: str, settings: object, key: str) -> Error | None:
        """Why the adapter refuses its settings; None for one that cannot be opened without touching files."""
        if (family, kind) in OPEN_TOUCHES_FILES:
            return None
        try:
            if family == "transports":
                load_adapter("transports", kind).check_settings(settings)
            else:
                load_adapter(family, kind).open(settings, key)
        except Error as error:
            return error
        return None


@overload
def load_adapter(family: Literal["transports"], kind: str) -> TransportModule: ...
@overload
def load_adapter(family: Literal["trackers"], kind: str) -> AdapterModule[Tracker | MailboxReader]: ...
@overload
def load_adapter(family: Literal["rosters"], kind: str) -> AdapterModule[Directory]: ...
@overload
def load_adapter(family: Literal["directories"], kind: str) -> AdapterModule[PublicDirectory]: ...
@overload
def load_adapter(family: str, kind: str) -> AdapterModule[object]: ...
def load_adapter(family: str, kind: str) -> AdapterModule[object]:
    """Import the module of an adapter."""
    return cast("AdapterModule[object]", importlib.import_module(adapters.REGISTRY[family][kind]))


def load_settings(settings: config.Settings, family: str, table: config.Table, *, signed_in: bool = True) -> Any:  # noqa: ANN401  an adapter's own
    """An adapter's settings, with its secrets resolved unless it is not to sign in. Raises InvalidInput."""
    opener = (lambda reference: reference.resolve("")) if signed_in else None  # the converter adds the dotted key to an error
    try:
        return structure(AdapterRegistry().settings(family, table.kind), table.values, table.key, settings.folder, opener)
    except ConfigErrors as faulty:
        first = faulty.faults[0]
        raise InvalidInput(first.message, where=location_of(settings, first.key), hint=first.hint) from None


def open_adapter(settings: config.Settings, family: str, table: config.Table) -> Any:  # noqa: ANN401  an adapter of any family
    """The roster, tracker or directory that a table names; not connected yet. Raises InvalidInput with the key, its file and line."""
    shaped = load_settings(settings, family, table)
    with with_location(settings, table.key):
        return load_adapter(family, table.kind).open(shaped, table.key)


def location_of(settings: config.Settings, key: str) -> str:
    """Where a dotted key is, for messages: `distributor.toml line 41: ledger.url`."""
    known = key
    while known and known not in settings.origins:  # a key of an inline table has no line of its own
        known = known.rpartition(".")[0]
    file, origin = settings.file.name, settings.origins[known].origin if known else ""
    return f"{origin if origin.startswith(f'{file} line ') else file}: {key}"


@contextmanager
def with_location(settings: config.Settings, key: str = "") -> Iterator[None]:
    """Add file and line to an error about a key, raised when its value is used; `key`: the table that may lack it."""
    try:
        yield
    except InvalidInput as error:
        if error.where is None or not (error.where in settings.origins or (key and f"{error.where}.".startswith(f"{key}."))):
            raise
        raise InvalidInput(error.message, where=location_of(settings, error.where), hint=error.hint) from error


# --- the ledger ----------------------------------------------------------------------------------------------------


@contextmanager
def open_for_reading(settings: config.Settings) -> Iterator[Ledger]:
    """The ledger, for commands that only read."""
    with _opened(settings) as ledger:
        yield ledger


@contextmanager
def open_for_copying(settings: config.Settings) -> Iterator[Ledger]:
    """The ledger, to be copied. No checkpoint is published afterwards: a copied ledger gets no new ones."""
    with closing(_ledger(settings)) as ledger:
        yield ledger


@contextmanager
def open_for_writing(settings: config.Settings, *, sends: bool = False) -> Iterator[Ledger]:
    """The ledger, for commands that write; passwords that have expired are ended first.

    Raises InvalidInput where the command sends messages or reveals passwords (`sends`) and the ledger was restored or moved.
    """
    with _opened(settings, sends=sends) as ledger:
        ledger.expire()
        yield ledger


written: dict[Path, config.Settings] = {}  # configurations that publish checkpoints, whose ledger has new events since the last one


@contextmanager
def _opened(settings: config.Settings, *, sends: bool = False) -> Iterator[Ledger]:
    with closing(_ledger(settings, sends=sends)) as ledger:
        if not settings.audit.checkpoints:
            yield ledger
            return
        before = ledger.position()
        try:
            yield ledger
        finally:
            with suppress(Error):  # what made the command fail is told instead
                if ledger.position() != before:
                    written[settings.file] = settings


def _ledger(settings: config.Settings, *, sends: bool = False) -> Ledger:
    from distributor.ledger import high_water_marks, open_guarded
    from distributor.workers import process

    marks = high_water_marks.folder(os.environ)
    with with_location(settings):
        url = ledger_url(settings)
        clock = now if url.startswith("sqlite") else None  # a database server has its own
        return open_guarded(url, by=who(), now=clock, marks=marks, here=process.machine(), sends=sends)


def ledger_url(settings: config.Settings, url: str = "") -> str:
    """The database URL, or another one, with a SQLite path made absolute."""
    url = url or settings.ledger.url
    kind, slashes, path = url.partition(":///")
    if kind.startswith("sqlite") and slashes and path and not path.startswith("/"):
        return f"{kind}:///{settings.folder / path}"
    return url


def ledger_file(settings: config.Settings) -> Path | None:
    """The ledger's SQLite file; None where the ledger is on a database server."""
    kind, _, path = ledger_url(settings).partition(":///")
    return Path(path) if kind.startswith("sqlite") else None


def make_ledger(settings: config.Settings) -> None:
    """Create the empty ledger that a configuration names."""
    from distributor.ledger import open_ledger

    with with_location(settings):
        open_ledger(ledger_url(settings), by=who(), now=now, create=True).close()


def refuse_lost(ledger: Path) -> None:
    """Raise InvalidInput where this host remembers a ledger at this path."""
    from distributor.ledger import high_water_marks, refuse_lost

    refuse_lost(high_water_marks.folder(os.environ), str(ledger.absolute()))


def has_ledger(settings: config.Settings) -> bool:
    """Whether the ledger exists. Raises what opening it raises."""
    try:
        _ledger(settings).close()
    except NoLedger:
        return False
    return True


def create_ledger(path: Path) -> None:
    """Create an empty ledger in a file."""
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
    """The `Address.key` of an address from the command line. Raises UsageError."""
    match parse_address(text):
        case BadAddress(reason=reason, hint=hint):
            raise UsageError(reason, hint=hint)
        case address:
            return address.key


def reason(text: str) -> str:
    """The value of --reason, stripped. Raises UsageError where it is empty."""
    if not text.strip():
        raise UsageError("--reason is empty", hint="give a reason; it is recorded in the ledger")
    return text.strip()


# --- the vault -----------------------------------------------------------------------------------------------------


def new_identity() -> tuple[Secret, str]:
    """A new age identity (secret, opens passwords) and its recipient (public, seals them)."""
    from distributor.vault import make_identity

    return make_identity()


def vault(settings: config.Settings) -> VaultIdentity:
    """The vault that opens passwords. Raises InvalidInput when no identity is configured, or it belongs to none of `vault.recipients`."""
    from distributor.vault import RESTORE_KEY, AgeVault

    with with_location(settings):
        if settings.vault.identity is None:
            hint = (
                'run this on the machine that has the identity, or set `vault.identity = "file:vault.key"`'
                " (see docs/vault.md#which-host-has-which-key)"
            )
            raise InvalidInput("missing", where="vault.identity", hint=hint)
        try:
            secret = settings.vault.identity.resolve("vault.identity")
        except InvalidInput as fault:
            if settings.vault.identity.path is None or settings.vault.identity.path.exists():
                raise
            raise InvalidInput(fault.message, where=fault.where, hint=RESTORE_KEY) from None
        opened = AgeVault(secret)
        if not set(opened.recipients) & set(settings.vault.recipients):
            message = "this key does not belong to `vault.recipients`, so it opens none of their passwords"
            raise InvalidInput(message, where="vault.identity", hint=RESTORE_KEY)
        return opened


def private_files(settings: config.Settings) -> list[Path]:
    """Files that only their owner may read: the ledger, and every file that a secret is read from."""
    references = [settings.vault.identity, checkpoint_key(settings), *_references(settings)]
    files = [reference.path for reference in references if reference is not None]
    return [path for path in (ledger_file(settings), *files) if path is not None]


def checkpoint_key(settings: config.Settings) -> config.SecretRef:
    """Where the key is that signs checkpoints of the audit log."""
    return settings.audit.key or config.SecretRef("file", "checkpoint.key", settings.folder)


def _references(settings: config.Settings) -> list[config.SecretRef]:
    tables = (settings.transport, *settings.sources, *settings.trackers, *settings.rosters, *settings.directories)
    tables = tables if settings.intune is None else (*tables, settings.intune)
    nested = [value for table in tables for value in table.values.values()]
    values = [inner for value in nested for inner in (value.values() if isinstance(value, dict) else (value,))]
    texts = [value for value in values if isinstance(value, str)]
    named = [parse_reference(text, settings.folder) for text in texts if text.startswith(("file:", "cred:"))]
    return named + [sender.password for sender in settings.senders if sender.password is not None]
