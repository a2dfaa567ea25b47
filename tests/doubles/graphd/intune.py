"""Requests to Intune: imported certificates, app configurations, device configurations, apps; strict, and silent about reasons.

Whatever is wrong with an imported certificate is answered as the service does, by a 400 that names no reason; `refusals` keeps it.
"""

from __future__ import annotations

import base64
import re
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any

from tests.doubles.graphd.call import Call
from tests.doubles.graphd.clock import stamp
from tests.doubles.graphd.intune_state import HASHES, Intune, open_package
from tests.doubles.graphd.refusals import Refusal
from tests.doubles.graphd.wire import Answer

TYPES = ("#microsoft.graph.androidDeviceOwnerImportedPFXCertificateProfile", "#microsoft.graph.androidForWorkImportedPFXCertificateProfile")
ANY_PURPOSE = {"name": "Any Purpose", "objectIdentifier": "2.5.29.37.0"}
FILTER = re.compile(r"tolower\((userPrincipalName|thumbprint)\) eq '([^']*)'")
IOS = "#microsoft.graph.iosMobileAppConfiguration"


# --- imported certificates -------------------------------------------------------------------------------------------


def _generic(call: Call, why: str) -> Refusal:
    call.service.intune.refusals.append(f"{call.request.method} {call.request.target}: {why}")
    return Refusal(400, "BadRequest", "An error has occurred")


def _checked(call: Call) -> tuple[str, dict[str, Any]]:
    """The id and the values of what is to be written."""
    intune, body = call.service.intune, dict(call.body)
    user = next((u for u in call.service.directory.users.values() if u["userPrincipalName"] == body.get("userPrincipalName")), None)
    if user is None:
        raise _generic(call, f"there is no user {body.get('userPrincipalName')}")
    missing = [name for name in ("providerName", "keyName", "encryptedPfxBlob", "encryptedPfxPassword") if not body.get(name)]
    if missing or body.get("paddingScheme") not in HASHES:
        raise _generic(call, f"{missing or body.get('paddingScheme')}")
    if (body["providerName"], body["keyName"]) not in intune.keys:
        raise _generic(call, f"the connector has no key {body['keyName']} of {body['providerName']}")
    try:
        password = intune.password(body)
        found = open_package(base64.b64decode(body["encryptedPfxBlob"]), password) if intune.opens_packages else body["thumbprint"]
        ordered = datetime.fromisoformat(body["startDateTime"]) < datetime.fromisoformat(body["expirationDateTime"])
    except ValueError as wrong:
        raise _generic(call, f"the package or its password: {wrong}") from wrong
    if found != body["thumbprint"] or not ordered:
        raise _generic(call, "the thumbprint is another certificate's, or it ends before it begins")
    id_ = f"{user['id'].replace('-', '')}-{body['thumbprint']}"
    if body.pop("id", "") not in {"", id_}:
        raise _generic(call, "the id is another record's")
    return id_, body


def _licensed(call: Call) -> None:
    if not call.service.intune.licensed:
        raise Refusal(403, "Forbidden", "The tenant has no licence for Microsoft Intune.")


def _written(call: Call, id_: str, values: dict[str, Any], status: int) -> Answer:
    intune, now = call.service.intune, stamp(call.now)
    known = intune.records.get(id_, {"createdDateTime": now, "seen": call.now + intune.visible_after})
    intune.records[id_] = {**known, **values, "id": id_, "lastModifiedDateTime": now}
    intune.written[id_] += 1
    return call.say(_shown(call, intune.records[id_]), status)


def _shown(call: Call, record: dict[str, Any]) -> dict[str, Any]:
    values = {name: value for name, value in record.items() if name != "seen"}
    return {**values, "encryptedPfxBlob": call.service.intune.shows_blob, "encryptedPfxPassword": ""}


def _record(call: Call) -> dict[str, Any]:
    record = call.service.intune.records.get(call.params["userPFXCertificate-id"])
    if record is None or record["seen"] > call.now:
        raise Refusal(404, "ResourceNotFound", "Resource not found")
    return record


def create(call: Call) -> Answer:
    _licensed(call)
    id_, values = _checked(call)
    if id_ in call.service.intune.records:
        raise Refusal(409, "Conflict", "An error has occurred")
    return _written(call, id_, values, 201)


def update(call: Call) -> Answer:
    _licensed(call)
    if call.params["userPFXCertificate-id"] not in call.service.intune.records:
        raise Refusal(404, "ResourceNotFound", "Resource not found")
    id_, values = _checked(call)
    if id_ != call.params["userPFXCertificate-id"]:
        raise _generic(call, "the record is another one's")
    return _written(call, id_, values, 200)


def read(call: Call) -> Answer:
    _licensed(call)
    return call.say(_shown(call, _record(call)))


def listed(call: Call) -> Answer:
    _licensed(call)
    wanted = [FILTER.fullmatch(part.strip()) for part in str(call.query.get("$filter", "")).split(" and ") if part.strip()]
    if None in wanted:
        raise Refusal(400, "BadRequest", "Invalid filter clause")
    found = [record for record in call.service.intune.records.values() if record["seen"] <= call.now]
    found = [record for record in found if all(str(record[one[1]]).lower() == one[2] for one in wanted if one)]
    return call.say({"value": [_shown(call, record) for record in found[: int(call.query.get("$top", 1000))]]})


# --- configurations and profiles -------------------------------------------------------------------------------------


def _stored(call: Call, store: dict[str, dict[str, Any]], values: dict[str, Any], id_: str | None = None) -> dict[str, Any]:
    now = stamp(call.now)
    known = store.get(id_ or "", {"id": str(uuid.uuid4()), "createdDateTime": now, "version": 0, "assignments": []})
    made = {**known, **values, "lastModifiedDateTime": now, "version": known["version"] + 1}
    if made["@odata.type"] in TYPES:  # the service adds it with every write
        made["extendedKeyUsages"] = [*made.get("extendedKeyUsages", ()), ANY_PURPOSE]
    store[made["id"]] = made
    return made


def _public(call: Call, made: dict[str, Any]) -> dict[str, Any]:
    expanded = "assignments" in str(call.query.get("$expand", ""))
    return {name: value for name, value in made.items() if expanded or name != "assignments"}


def _only_version(call: Call, store: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """v1.0 knows iOS configurations alone, and no profile."""
    beta = call.request.segments[1] == "beta"
    return [one for one in store.values() if beta or one["@odata.type"] == IOS]


def _found(call: Call, store: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    for one in _only_version(call, store):
        if one["id"] == call.params[name]:
            return one
    raise Refusal(404, "ResourceNotFound", "Resource not found")


def _checked_profile(call: Call, values: dict[str, Any]) -> dict[str, Any]:
    root = values.pop("rootCertificate@odata.bind", None)
    if values["@odata.type"].endswith("ScepCertificateProfile"):
        named = re.fullmatch(r".*/beta/deviceManagement/deviceConfigurations\('([^']+)'\)", str(root))
        known = call.service.intune.profiles.get(named[1]) if named else None
        if known is None or not known["@odata.type"].endswith("TrustedRootCertificate"):
            raise _generic(call, f"no trusted root {root}")
    return values


def _patched(call: Call, known: dict[str, Any]) -> dict[str, Any]:
    """A PATCH names its type, and has everything of it."""
    values = dict(call.body)
    own = known.keys() - {"id", "createdDateTime", "lastModifiedDateTime", "version", "assignments"}
    if values.get("@odata.type") != known["@odata.type"] or not own <= values.keys():
        raise _generic(call, f"a partial change lacks {sorted(own - values.keys())}")
    if known.get("intendedPurpose") != values.get("intendedPurpose"):
        raise _generic(call, "the intended purpose cannot be changed")
    return values


def _family(store: Callable[[Intune], dict[str, dict[str, Any]]], name: str, assigned: int) -> dict[str, Callable[[Call], Answer]]:
    """The operations of configurations, or of profiles."""

    def create_one(call: Call) -> Answer:
        _licensed(call)
        values = dict(call.body)
        checked = _checked_profile(call, values) if assigned == 200 else values
        return call.say(_public(call, _stored(call, store(call.service.intune), checked)), 201)

    def update_one(call: Call) -> Answer:
        _licensed(call)
        known = _found(call, store(call.service.intune), name)
        values = _patched(call, known)
        checked = _checked_profile(call, values) if assigned == 200 else values
        return call.say(_public(call, _stored(call, store(call.service.intune), checked, known["id"])))

    def assign(call: Call) -> Answer:
        _licensed(call)
        known = _found(call, store(call.service.intune), name)
        known["assignments"] = [{"id": f"{known['id']}_{number}", **one} for number, one in enumerate(call.body["assignments"])]
        return Answer(204) if assigned == 204 else call.say({"value": known["assignments"]})

    def every(call: Call) -> Answer:
        _licensed(call)
        return call.say({"value": [_public(call, one) for one in _only_version(call, store(call.service.intune))]})

    return {
        "list": every,
        "get": lambda call: call.say(_public(call, _found(call, store(call.service.intune), name))),
        "create": create_one,
        "update": update_one,
        "assign": assign,
    }


def _apps(call: Call) -> Answer:
    """Of $filter what the portal's examples have."""
    _licensed(call)
    text = str(call.query.get("$filter", ""))
    name = re.search(r"contains\(displayName,\s*'([^']*)'\)", text)
    kind = re.search(r"isof\('(microsoft\.graph\.\w+)'\)", text)
    found = call.service.intune.apps
    found = [one for one in found if not name or name[1].casefold() in one["displayName"].casefold()]
    found = [one for one in found if not kind or one["@odata.type"] == f"#{kind[1]}"]
    # the description knows only the base type
    return call.say({"value": [{name: value for name, value in one.items() if name != "@odata.type"} for one in found]})


OPERATIONS: dict[str, Callable[[Call], Answer]] = {
    "userPfxCertificate.list": listed,
    "userPfxCertificate.get": read,
    "userPfxCertificate.create": create,
    "userPfxCertificate.update": update,
    "mobileApp.list": _apps,
    "certificateConnectorDetails.list": lambda call: call.say({"value": call.service.intune.connectors}),
    **{
        f"mobileAppConfiguration.{verb}": act
        for verb, act in _family(lambda intune: intune.configurations, "managedDeviceMobileAppConfiguration-id", 204).items()
    },
    **{f"deviceConfiguration.{verb}": act for verb, act in _family(lambda intune: intune.profiles, "deviceConfiguration-id", 200).items()},
}
