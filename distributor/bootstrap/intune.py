"""Composes imports into Intune: the table [intune], its transport, the connector's key, and the tenant's users."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributor import bootstrap, config
from distributor.errors import InvalidInput, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from distributor.adapters.intune import IntuneTransport
    from distributor.microsoft.intune_policies import Wanted
    from distributor.microsoft.outlook import Setting
    from distributor.microsoft.pfx_import import ConnectorKey
    from distributor.model.issues import Diagnostic
    from distributor.model.people import Directory

LARGEST = 16 * 2**10  # bytes of an exported key; a PEM of RSA-4096 has 800
EXPORT = 2**20  # bytes of an exported policy
_TABLE = "see docs/intune.md#import-certificates"
_PUBLIC_KEY = "intune.connector.public_key"


def table(settings: config.Settings) -> config.Table:
    """The table [intune]. Raises UsageError where there is none."""
    if settings.intune is None:
        raise UsageError(
            f"[intune] is missing in {settings.file.name}", hint=f"add it with an app registration and the connector ({_TABLE})"
        )
    return settings.intune


def tenant(settings: config.Settings) -> str:
    """` of example.onmicrosoft.com`, for questions; empty where the app's own machine knows it alone."""
    name = table(settings).values.get("tenant")
    return f" of {name}" if isinstance(name, str) and name else ""


def transport(settings: config.Settings, *, tell: Callable[[str], None] | None = None) -> IntuneTransport:
    """The transport of imports, not connected yet. Raises InvalidInput."""
    own = bootstrap.load_settings(settings, "intune", table(settings))
    with bootstrap.with_location(settings, "intune"):
        made: IntuneTransport = bootstrap.load_adapter("intune", "graph").open(own, tell=tell)  # type: ignore[assignment]
        return made


def connector(settings: config.Settings) -> tuple[bytes, ConnectorKey]:
    """The connector's exported key and its name, each fault found before anything is packed. Raises InvalidInput."""
    data, name, _ = _connector(settings)
    return data, name


def _connector(settings: config.Settings) -> tuple[bytes, ConnectorKey, RSAPublicKey]:
    from distributor.microsoft import connector_key

    own = bootstrap.load_settings(settings, "intune", table(settings), signed_in=False)
    with bootstrap.with_location(settings, "intune"):
        if own.connector is None:
            hint = f"add public_key and key_name of the certificate connector ({_TABLE})"
            raise InvalidInput("missing", where="intune.connector", hint=hint)
        hint = "export it on the connector: Export-IntunePublicKey (see docs/intune.md#the-connectors-key)"
        data = _contents(own.connector.public_key, LARGEST, _PUBLIC_KEY, hint)
        return data, own.connector.key, connector_key.parse_key(data, _PUBLIC_KEY)


def _contents(path: Path, limit: int, where: str, hint: str) -> bytes:
    """A file that [intune] names. Raises InvalidInput."""
    from distributor.files.reader import FileRefused, read_file

    try:
        return read_file(path, limit, follow=True)
    except FileRefused as refused:
        raise InvalidInput(f"{path}: {refused.message}", where=where, hint=hint) from None


def check_password(settings: config.Settings) -> None:
    """Raise InvalidInput where the passwords of [password] do not fit into one block of the connector's key."""
    _, name, key = _connector(settings)
    _check_password(settings, name, key)


def _check_password(settings: config.Settings, name: ConnectorKey, key: RSAPublicKey) -> None:
    from distributor.microsoft import connector_key

    longest = connector_key.longest_password(key, name.padding)
    if len(settings.password.recipe.shape) > longest:
        hint = "use fewer or shorter groups, or a larger key on the connector"
        raise InvalidInput(f"passwords may have {longest} characters with this key and padding", where="password.groups", hint=hint)


def check_connector(settings: config.Settings) -> list[Diagnostic]:
    """`doctor`'s check of the connector's key."""
    from distributor.microsoft import connector_key
    from distributor.model.issues import Diagnostic

    _, name, key = _connector(settings)
    _check_password(settings, name, key)
    text = f'the connector\'s key "{name.name}" has {key.key_size} bits and the fingerprint {connector_key.fingerprint(key)[:16]}'
    return [Diagnostic("intune", "ok", text, None)]


def wanted(settings: config.Settings) -> Wanted:
    """The policies that [intune] describes, with the files that it names. Raises InvalidInput."""
    from distributor.microsoft.intune_policies import Platform, Scep, Wanted

    own = bootstrap.load_settings(settings, "intune", table(settings), signed_in=False)
    with bootstrap.with_location(settings, "intune"):
        if own.outlook is None and own.profiles is None:
            hint = "add [intune.outlook] or [intune.profiles] (see docs/intune.md#policies)"
            raise InvalidInput("nothing is wanted", where="intune", hint=hint)
        chosen, profiles = own.outlook, own.profiles
        scep = None if profiles is None or profiles.scep is None else profiles.scep
        return Wanted(
            name=own.name,
            platforms=own.platforms,
            android=() if profiles is None else profiles.android,
            settings=() if chosen is None else _outlook(chosen),
            verbatim={} if chosen is None else {Platform.IOS: _export(chosen.ios_export), Platform.ANDROID: _export(chosen.android_export)},
            roots=() if profiles is None else tuple(_root(path) for path in profiles.roots),
            imported=() if profiles is None else profiles.imported,
            derived=profiles is not None and profiles.derived,
            scep=None if scep is None else Scep(scep.urls, scep.subject, scep.key_size, scep.years, scep.purposes),
        )


def groups(settings: config.Settings) -> tuple[str, ...]:
    """The groups that policies are assigned to, as they are written."""
    found: tuple[str, ...] = bootstrap.load_settings(settings, "intune", table(settings), signed_in=False).groups
    return found


def portal_steps(settings: config.Settings, wanted: Wanted) -> list[str]:
    """What no documented field carries, click by click, in the organisation's first language; a text for each platform."""
    from distributor.mail.templates import INTUNE, TemplateRenderer

    if not wanted.settings:
        return []
    words = TemplateRenderer(settings.folder, settings.organisation.languages, (INTUNE,))
    names = tuple(f"{platform}.txt" for platform in wanted.platforms)
    return list(words.render_files(settings.organisation.languages[0], names, {"name": wanted.name}))


def _outlook(chosen: Any) -> tuple[Setting, ...]:  # noqa: ANN401  the adapter's own
    from distributor.microsoft import outlook

    sign, encrypt, change = chosen.sign_all, chosen.encrypt_all, chosen.users_may_change
    return tuple(outlook.settings(sign=sign, encrypt=encrypt, users_may_change=change, ldap=chosen.ldap, deploy=chosen.deploy_certificates))


def _export(path: Path | None) -> list[dict[str, object]]:
    """The keys of Outlook in an export of a policy that nothing documents; they are passed through as they are."""
    import json

    from distributor.microsoft import intune_policies

    if path is None:
        return []
    where, hint = "intune.outlook", "save the answer of GET /deviceAppManagement/mobileAppConfigurations/ID as JSON"
    data = _contents(path, EXPORT, where, hint)
    try:
        found = json.loads(data)
        entries = found.get("settings") or intune_policies.decoded(found.get("payloadJson"))["managedProperty"]
        return [dict(one.items()) for one in entries]
    except (ValueError, AttributeError, TypeError, KeyError):
        raise InvalidInput(f"{path}: not the export of an app configuration", where=where, hint=hint) from None


def _root(path: Path) -> tuple[str, bytes]:
    from distributor.pki import pem

    where, hint = "intune.profiles.roots", "name a PEM or DER file with one CA certificate"
    found = pem.authorities(_contents(path, LARGEST, where, hint))
    if len(found) != 1:
        raise InvalidInput(f"{path}: not one CA certificate", where=where, hint=hint)
    return path.name, found[0]


def users(settings: config.Settings) -> Directory:
    """The tenant's users, with whom people are compared where no [[rosters]] names a directory. Not connected yet."""
    from distributor.adapters.rosters import graph
    from distributor.clients.app_registration import registration

    own = bootstrap.load_settings(settings, "intune", table(settings))
    values = {name: getattr(registration(own), name) for name in registration(own).__dataclass_fields__}
    with bootstrap.with_location(settings, "intune"):
        return graph.open(graph.Settings(**values, graph=own.graph), "intune")
