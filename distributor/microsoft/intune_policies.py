"""What Outlook and its certificates need in Intune -> the objects of Graph (facts: intune.md 1 to 3).

Only what Microsoft documents is written. Everything else of an object that is there stays: keys of other programs, assignments to other
groups, settings that an administrator made. Nothing is ever deleted.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from distributor.microsoft import outlook
from distributor.microsoft.outlook import ANDROID_APP, Setting

CONFIGURATIONS, PROFILES = "deviceAppManagement/mobileAppConfigurations", "deviceManagement/deviceConfigurations"
GRAPH = "#microsoft.graph."
IOS_SETTINGS, ANDROID_SETTINGS = f"{GRAPH}iosMobileAppConfiguration", f"{GRAPH}androidManagedStoreAppConfiguration"
GROUP = f"{GRAPH}groupAssignmentTarget"
EXCLUDED = f"{GRAPH}exclusionGroupAssignmentTarget"
_SECURE_MAIL = {"name": "Secure Email", "objectIdentifier": "1.3.6.1.5.5.7.3.4"}
_ANY_PURPOSE = {"name": "Any Purpose", "objectIdentifier": "2.5.29.37.0"}


class Platform(StrEnum):
    """A phone's system."""

    IOS = "ios"
    ANDROID = "android"


class AndroidKind(StrEnum):
    """How Android devices are enrolled."""

    FULLY_MANAGED = "fully-managed"
    WORK_PROFILE = "work-profile"


class Purpose(StrEnum):
    """What a certificate profile is for."""

    ENCRYPTION = "encryption"
    SIGNING = "signing"


_TAGS = {Purpose.ENCRYPTION: "smimeEncryption", Purpose.SIGNING: "smimeSigning"}
_KINDS: Mapping[str, tuple[str, str, str]] = {  # names of types, for iOS, fully managed Android and work profiles
    "root": ("iosTrustedRootCertificate", "androidDeviceOwnerTrustedRootCertificate", "androidWorkProfileTrustedRootCertificate"),
    "scep": ("iosScepCertificateProfile", "androidDeviceOwnerScepCertificateProfile", "androidWorkProfileScepCertificateProfile"),
    "imported": (
        "iosImportedPFXCertificateProfile",
        "androidDeviceOwnerImportedPFXCertificateProfile",
        "androidForWorkImportedPFXCertificateProfile",
    ),
    "derived": (
        "iosDerivedCredentialAuthenticationConfiguration",
        "androidDeviceOwnerDerivedCredentialAuthenticationConfiguration",
        "",  # there is none
    ),
}


@dataclass(frozen=True, slots=True)
class Scep:
    """A SCEP server that issues certificates; each device gets its own, so they cannot share encrypted mail."""

    urls: tuple[str, ...]
    subject: str
    key_size: int
    years: int
    purposes: tuple[Purpose, ...]


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is wanted in the tenant. `roots`: file name and DER; `name`: what the names of all objects begin with."""

    name: str
    platforms: tuple[Platform, ...]
    android: tuple[AndroidKind, ...] = ()
    settings: tuple[Setting, ...] = ()
    verbatim: Mapping[Platform, Sequence[Mapping[str, object]]] = field(default_factory=dict)  # keys of an export, documented nowhere
    roots: tuple[tuple[str, bytes], ...] = ()
    imported: tuple[Purpose, ...] = ()
    derived: bool = False
    scep: Scep | None = None


@dataclass(frozen=True, slots=True)
class Policy:
    """An object that is to be in the tenant. `link`: the name of the trusted root that it is bound to."""

    name: str
    type: str
    values: Mapping[str, Any]
    link: str = ""

    @property
    def is_settings(self) -> bool:
        """Whether it is an app's configuration; else a profile of devices."""
        return self.type in {IOS_SETTINGS, ANDROID_SETTINGS}

    @property
    def platform(self) -> Platform:
        """For which phones."""
        return Platform.IOS if self.type.startswith(f"{GRAPH}ios") else Platform.ANDROID

    @property
    def path(self) -> str:
        """Where Graph keeps its kind."""
        return CONFIGURATIONS if self.is_settings else PROFILES

    @property
    def version(self) -> str:
        """The version of Graph that knows it."""
        return "v1.0" if self.type == IOS_SETTINGS else "beta"


# --- what is wanted ---------------------------------------------------------------------------------------------------


def policies(wanted: Wanted) -> Iterator[Policy]:
    """Every object, roots before what is bound to them. App configurations lack `targetedMobileApps`, which the tenant knows."""
    for label, place in _places(wanted):
        for number, (file, der) in enumerate(wanted.roots, 1):
            values = {"certFileName": file, "trustedRootCertificate": base64.b64encode(der).decode()}
            yield Policy(_root_name(wanted, label, number), GRAPH + _KINDS["root"][place], values)
        for purpose in wanted.imported:
            values = {"intendedPurpose": _TAGS[purpose], **(_imported(place) if place else {})}
            yield Policy(f"{wanted.name}: imported certificate for {purpose}, {label}", GRAPH + _KINDS["imported"][place], values)
        if wanted.scep is not None:
            for purpose in wanted.scep.purposes:
                name = f"{wanted.name}: SCEP certificate for {purpose}, {label}"
                yield Policy(name, GRAPH + _KINDS["scep"][place], _scep(wanted.scep, purpose, place), _root_name(wanted, label, 1))
        if wanted.derived and _KINDS["derived"][place]:
            yield Policy(f"{wanted.name}: derived credential, {label}", GRAPH + _KINDS["derived"][place], {})
    if wanted.settings:
        for platform in wanted.platforms:
            yield _app_settings(wanted, platform)


def _places(wanted: Wanted) -> Iterator[tuple[str, int]]:
    """Each kind of devices in words, with its place in _KINDS."""
    if Platform.IOS in wanted.platforms:
        yield "iOS", 0
    if Platform.ANDROID in wanted.platforms:
        for kind, label, place in ((AndroidKind.FULLY_MANAGED, "Android", 1), (AndroidKind.WORK_PROFILE, "Android work profile", 2)):
            if kind in wanted.android:
                yield label, place


def _root_name(wanted: Wanted, label: str, number: int) -> str:
    return f"{wanted.name}: trusted root{f' {number}' if len(wanted.roots) > 1 else ''}, {label}"


def _imported(place: int) -> dict[str, Any]:
    values: dict[str, Any] = {
        "renewalThresholdPercentage": 50,
        "subjectNameFormat": "commonName",
        "subjectAlternativeNameType": "emailAddress",
        "certificateValidityPeriodValue": 1,
        "certificateValidityPeriodScale": "years",
        "extendedKeyUsages": [_ANY_PURPOSE],
    }
    return {**values, **_access()} if place == 1 else values


def _access() -> dict[str, Any]:
    """Outlook may use the certificate without asking."""
    return {
        "certificateAccessType": "specificApps",
        "silentCertificateAccessDetails": [{"packageId": ANDROID_APP.removeprefix("app:")}],
    }


def _scep(scep: Scep, purpose: Purpose, place: int) -> dict[str, Any]:
    values: dict[str, Any] = {
        "renewalThresholdPercentage": 20,
        "subjectNameFormat": "custom",
        "subjectNameFormatString": scep.subject,
        "subjectAlternativeNameType": "emailAddress",
        "customSubjectAlternativeNames": [{"sanType": "emailAddress", "name": "{{EmailAddress}}"}],
        "certificateValidityPeriodValue": scep.years,
        "certificateValidityPeriodScale": "years",
        "scepServerUrls": list(scep.urls),
        "keyUsage": "keyEncipherment" if purpose is Purpose.ENCRYPTION else "digitalSignature",
        "keySize": f"size{scep.key_size}",
        "certificateStore": "user",
        "extendedKeyUsages": [_SECURE_MAIL],
    }
    if place:
        values["hashAlgorithm"] = "sha2"
    return {**values, **_access()} if place == 1 else values


def _app_settings(wanted: Wanted, platform: Platform) -> Policy:
    extra = list(wanted.verbatim.get(platform, ()))
    if platform is Platform.IOS:
        return Policy(
            f"{wanted.name}: Outlook, iOS", IOS_SETTINGS, {"settings": _by_key([*extra, *outlook.ios(wanted.settings)], _IOS_KEY)}
        )
    payload = outlook.android(wanted.settings)
    ours = payload["managedProperty"]
    assert isinstance(ours, list)  # noqa: S101  outlook.android makes it
    payload = {**payload, "managedProperty": _by_key([*extra, *ours], "key")}
    values = {"packageId": ANDROID_APP, "profileApplicability": "default", "payloadJson": encoded(payload)}
    return Policy(f"{wanted.name}: Outlook, Android", ANDROID_SETTINGS, values)


_IOS_KEY = "appConfigKey"


def _by_key(entries: Sequence[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
    """Each key once, the last one of it."""
    return list({str(entry.get(name)): dict(entry) for entry in entries}.values())


def encoded(payload: Mapping[str, object]) -> str:
    """The payload of an Android configuration as Graph has it."""
    return base64.b64encode(json.dumps(payload, separators=(",", ":")).encode()).decode()


def decoded(text: object) -> dict[str, Any]:
    """The other way; empty where it cannot be read."""
    try:
        found = json.loads(base64.b64decode(str(text), validate=True))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
