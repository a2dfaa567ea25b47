"""Choices -> Outlook's app-configuration keys for S/MIME, in the formats of device management systems (facts: intune.md 1, 2).

Only keys that Microsoft documents, the same for iOS and Android; and `CertsFromIntune` where it is asked for, which exports show.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from distributor.model.issues import Diagnostic
from distributor.model.people import escape_unsafe

PREFIX = "com.microsoft.outlook.Mail."
ANDROID_APP = "app:com.microsoft.office.outlook"
_HOST = re.compile(r"(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
_PLACE = re.compile(r"(?:(?P<scheme>ldaps?)://)?(?P<host>[^/:@?#\s\[\]]+)(?::(?P<port>[0-9]{1,5}))?", re.IGNORECASE)
_PLAIN_PORT, _LAST_PORT = 389, 65535


class BadHost(ValueError):
    """Not the name of an LDAP server as Outlook accepts it; the message says why."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A key with its value, and what Outlook does without it."""

    key: str
    value: bool | str
    default: bool | None
    means: str

    @property
    def kind(self) -> str:
        """Its type, "boolean" or "string"."""
        return "boolean" if isinstance(self.value, bool) else "string"

    @property
    def written(self) -> str:
        """Its value as text."""
        return str(self.value).lower() if isinstance(self.value, bool) else self.value


def settings(*, sign: bool, encrypt: bool, users_may_change: bool, ldap: str | None, deploy: bool = False) -> list[Setting]:
    """The keys that turn S/MIME on. `deploy`: Intune installs the certificates, in the portal's own words. Raises BadHost."""
    free = users_may_change
    may = "people can" if free else "people cannot"
    found = [
        Setting(f"{PREFIX}SMIMEEnabled", True, False, "S/MIME is on"),
        Setting(f"{PREFIX}SMIMEEnabled.UserChangeAllowed", free, True, f"{may} turn S/MIME off"),
        Setting(f"{PREFIX}SMIMEEnabled.SignAllMail", sign, False, f"{_which(sign)} signed"),
        Setting(f"{PREFIX}SMIMEEnabled.SignAllMail.UserChangeAllowed", free, True, f"{may} change signing"),
        Setting(f"{PREFIX}SMIMEEnabled.EncryptAllMail", encrypt, False, f"{_which(encrypt)} encrypted"),
        Setting(f"{PREFIX}SMIMEEnabled.EncryptAllMail.UserChangeAllowed", free, True, f"{may} change encryption"),
    ]
    if ldap is not None:
        found.append(Setting(f"{PREFIX}SMIMEEnabled.LDAPHostName", host(ldap), None, "LDAP server for recipients' certificates"))
    if deploy:
        found.append(Setting(f"{PREFIX}SMIMEEnabled.CertsFromIntune", True, None, "S/MIME certificates are deployed from Intune"))
    return found


def _which(every: bool) -> str:  # noqa: FBT001  private
    return "all messages are" if every else "by default, messages are not"


def host(text: str) -> str:
    """An LDAP server as `host`, `host:port`, `ldap://host[:port]` or `ldaps://host[:port]`. Raises BadHost."""
    found = _PLACE.fullmatch(text)
    if found is None:
        raise BadHost(_why(text))
    scheme, name, port = (found["scheme"] or "").lower(), found["host"].lower(), found["port"]
    if not _HOST.fullmatch(name) or (name.rpartition(".")[2].isdigit() and not _is_ipv4(name)):
        raise BadHost(f'"{escape_unsafe(name)}" is not a host name')
    if port is not None and not 0 < int(port) <= _LAST_PORT:
        raise BadHost(f"{port} is not a port number")
    return (f"{scheme}://" if scheme else "") + name + (f":{int(port)}" if port else "")


def _is_ipv4(name: str) -> bool:
    parts = name.split(".")
    return len(parts) == 4 and all(part.isdigit() and part == str(int(part)) and int(part) < 256 for part in parts)  # noqa: PLR2004  RFC 791


def _why(text: str) -> str:
    scheme, separator, rest = text.partition("://")
    if separator and scheme.lower() not in {"ldap", "ldaps"}:
        return f'"{escape_unsafe(scheme)}" is not an LDAP scheme'
    rest = rest if separator else text
    if "@" in rest:
        return "it has an account, but Outlook does not sign in to LDAP servers"  # not quoted: there may be a password in it
    if set("/?#") & set(rest):
        return f'"{escape_unsafe(text)}" has a path or base, which Outlook does not support'
    return f'"{escape_unsafe(text)}" is not a host name'


def remarks(found: Sequence[Setting]) -> Iterator[Diagnostic]:
    """Consequences of these settings that are easy to miss."""
    on = {setting.key.removeprefix(f"{PREFIX}SMIMEEnabled").lstrip("."): setting.value for setting in found}
    yield Diagnostic(
        "threads", "ok", 'with S/MIME on, Outlook does not group messages by conversation ("Organize by thread") in any account'
    )
    yield Diagnostic("app", "ok", "these settings do not install certificates; each person opens the attachment they were sent")
    if on["EncryptAllMail"]:
        text = "Outlook asks people to remove recipients who have no certificate"
        yield Diagnostic("encryption", "warning", text, "publish certificates first, or let people turn encryption off")
    if (on["SignAllMail"] or on["EncryptAllMail"]) and not on["UserChangeAllowed"]:
        text = "people without a certificate on the phone cannot turn signing or encrypting off"
        yield Diagnostic("freedom", "warning", text, "assign these settings only to people whose certificate is installed")
    place = on.get("LDAPHostName")
    if isinstance(place, str) and (place.startswith("ldap://") or (place.endswith(f":{_PLAIN_PORT}") and not place.startswith("ldaps://"))):
        text = f'"{place}" is used without TLS: anyone on the network path can see whom people write to, and change the response'
        yield Diagnostic("ldap", "warning", text, "write ldaps://HOST")


# --- formats -----------------------------------------------------------------------------------------------------


def ios(found: Sequence[Setting]) -> list[dict[str, str]]:
    """Intune's settings of an iOS app configuration (Graph: appConfigurationSettingItem)."""
    return [
        {"appConfigKey": setting.key, "appConfigKeyType": f"{setting.kind}Type", "appConfigKeyValue": setting.written} for setting in found
    ]


def plist(found: Sequence[Setting]) -> dict[str, bool | str]:
    """The property list that every iOS device management accepts."""
    return {setting.key: setting.value for setting in found}


def android(found: Sequence[Setting]) -> dict[str, object]:
    """The managed configuration of Android Enterprise."""
    names = {"boolean": "valueBool", "string": "valueString"}
    return {
        "kind": "androidenterprise#managedConfiguration",
        "productId": ANDROID_APP,
        "managedProperty": [{"key": setting.key, names[setting.kind]: setting.value} for setting in found],
    }


def apps(found: Sequence[Setting]) -> list[dict[str, str]]:
    """Intune's settings for managed apps on devices that are not enrolled (Graph: customSettings)."""
    return [{"name": setting.key, "value": setting.written} for setting in found]
