"""Settings -> the adapters they name, opened. The only file that knows both sides; adapters are found by name, at run time."""

from __future__ import annotations

import getpass
import importlib
import os
import platform
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributor import adapters, config
from distributor.config.converter import ConfigErrors, structure
from distributor.config.schema import SourceFiles
from distributor.config.secrets import parse_reference
from distributor.errors import Error, InvalidInput, NoLedger, UsageError
from distributor.model.people import BadAddress, parse_address

if TYPE_CHECKING:
    from distributor.model.ports import Ledger, Vault
    from distributor.model.secret import Secret


def now() -> datetime:
    """The clock of the whole program."""
    return datetime.now(UTC)


def settings(chosen: Path | None) -> config.Settings:
    """The configuration that counts."""
    return config.read(config.find(chosen), AdapterRegistry())


TOUCHING = frozenset({("transports", "folder"), ("sources", "files")})  # opening them makes or reads something; the others connect later


class AdapterRegistry:
    """The adapters that are there."""

    def kinds(self, family: str) -> tuple[str, ...]:
        """The public modules of a room that a table may name; a CSV is named where people are wanted."""
        return tuple(name for name in sorted(adapters.REGISTRY[family]) if (family, name) != ("rosters", "csv"))

    def settings(self, family: str, kind: str) -> type[Any]:
        """What a table may hold: an adapter's settings, or for `[[sources]]` what a plan takes."""
        if (family, kind) == ("sources", "files"):
            return SourceFiles
        chosen: type[Any] = load_adapter(family, kind).Settings
        return chosen

    def fault(self, family: str, kind: str, settings: object, key: str) -> Error | None:
        """What an adapter that opens without touching anything has against its settings."""
        if (family, kind) in TOUCHING:
            return None
        try:
            load_adapter(family, kind).open(settings, *(() if family == "transports" else (key,)))
        except Error as error:
            return error
        return None


def load_adapter(family: str, kind: str) -> Any:  # noqa: ANN401  a module, found by name
    """The module of an adapter."""
    return importlib.import_module(adapters.REGISTRY[family][kind])


def load_settings(settings: config.Settings, family: str, table: config.Table, *, signed_in: bool = True) -> Any:  # noqa: ANN401  an adapter's own
    """An adapter's settings, its secrets opened where it is to sign in. Raises Unusable."""
    opener = (lambda reference: reference.resolve("")) if signed_in else None  # a fault is told with its dotted key
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
    """Where a dotted key stands, for messages: `distributor.toml line 41: ledger.url`."""
    known = key
    while known and known not in settings.origins:  # what stands inside an inline table
        known = known.rpartition(".")[0]
    file, origin = settings.file.name, settings.origins[known].origin if known else ""
    return f"{origin if origin.startswith(f'{file} line ') else file}: {key}"


@contextmanager
def with_location(settings: config.Settings, key: str = "") -> Iterator[None]:
    """A fault of a key that shows only when its value is used gets its file and line; so does one of a key missing in table `key`."""
    try:
        yield
    except InvalidInput as error:
        if error.where is None or not (error.where in settings.origins or (key and f"{error.where}.".startswith(f"{key}."))):
            raise
        raise InvalidInput(error.message, where=location_of(settings, error.where), hint=error.hint) from error


# --- the ledger ----------------------------------------------------------------------------------------------------


@contextmanager
def open_for_reading(settings: config.Settings) -> Iterator[Ledger]:
    """The ledger, to look into."""
    with closing(_ledger(settings)) as ledger:
        yield ledger


@contextmanager
def open_for_writing(settings: config.Settings, *, sends: bool = False) -> Iterator[Ledger]:
    """The ledger, to write into; passwords whose time is over end first.

    Raises Unusable where messages or passwords are to leave (`sends`) and it was restored or moved.
    """
    with closing(_ledger(settings, sends=sends)) as ledger:
        ledger.expire()
        yield ledger


def _ledger(settings: config.Settings, *, sends: bool = False) -> Ledger:
    from distributor.ledger import high_water_marks, open_guarded
    from distributor.workers import process

    place = high_water_marks.folder(os.environ)
    with with_location(settings):
        url = ledger_url(settings)
        clock = now if url.startswith("sqlite") else None  # a server has its own
        return open_guarded(url, by=who(), now=clock, marks=place, here=process.machine(), sends=sends)


def ledger_url(settings: config.Settings) -> str:
    """The database URL with a SQLite path made absolute."""
    kind, slashes, path = settings.ledger.url.partition(":///")
    if kind.startswith("sqlite") and slashes and not path.startswith("/"):
        return f"{kind}:///{settings.folder / path}"
    return settings.ledger.url


def ledger_file(settings: config.Settings) -> Path | None:
    """The file that the ledger is, unless it lies on a server."""
    kind, _, path = ledger_url(settings).partition(":///")
    return Path(path) if kind.startswith("sqlite") else None


def make_ledger(settings: config.Settings) -> None:
    """The ledger of a configuration, new and empty."""
    from distributor.ledger import open_ledger

    with with_location(settings):
        open_ledger(ledger_url(settings), by=who(), now=now, create=True).close()


def refuse_lost(ledger: Path) -> None:
    """Raise Unusable where a ledger that this host knows lay here."""
    from distributor.ledger import high_water_marks, refuse_lost

    refuse_lost(high_water_marks.folder(os.environ), str(ledger.absolute()))


def has_ledger(settings: config.Settings) -> bool:
    """Whether there is a ledger. Raises what opening it raises."""
    try:
        _ledger(settings).close()
    except NoLedger:
        return False
    return True


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
            raise UsageError(reason, hint=hint)
        case address:
            return address.key


def reason(text: str) -> str:
    """A reason that says something."""
    if not text.strip():
        raise UsageError("--reason is empty", hint="say why; it is kept in the ledger")
    return text.strip()


# --- the vault -----------------------------------------------------------------------------------------------------


def new_identity() -> tuple[Secret, str]:
    """A new pair of keys: what opens passwords, and what seals them."""
    from distributor.vault import make_identity

    return make_identity()


def vault(settings: config.Settings) -> Vault:
    """What opens passwords here. Raises Unusable when it is missing, or would not open what this configuration seals."""
    from distributor.vault import AgeVault as Age

    with with_location(settings):
        if settings.vault.identity is None:
            hint = "reveal passwords where the identity is, or name it here: file:vault.key"
            raise InvalidInput("missing", where="vault.identity", hint=hint)
        opened = Age(settings.vault.identity.resolve("vault.identity"))
        if not set(opened.recipients) & set(settings.vault.recipients):
            hint = "use the identity that belongs to `vault.recipients`"
            raise InvalidInput("this identity opens nothing that is sealed for vault.recipients", where="vault.identity", hint=hint)
        return opened


def private_files(settings: config.Settings) -> list[Path]:
    """Files that only their owner may read: the ledger, and every file that a secret lies in."""
    references = [settings.vault.identity, *_references(settings)]
    files = [reference.path for reference in references if reference is not None]
    return [path for path in (ledger_file(settings), *files) if path is not None]


def _references(settings: config.Settings) -> list[config.SecretRef]:
    tables = (settings.transport, *settings.sources, *settings.trackers, *settings.rosters, *settings.directories)
    nested = [value for table in tables for value in table.values.values()]
    values = [inner for value in nested for inner in (value.values() if isinstance(value, dict) else (value,))]
    texts = [value for value in values if isinstance(value, str)]
    named = [parse_reference(text, settings.folder) for text in texts if text.startswith(("file:", "cred:"))]
    return named + [sender.password for sender in settings.senders if sender.password is not None]
