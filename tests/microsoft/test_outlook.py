"""Outlook's app settings: the documented keys, the values that were chosen, and an LDAP server as Outlook takes it."""

from __future__ import annotations

import json
import plistlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from distributor.microsoft import outlook

GRAPH = Path(__file__).parents[1] / "data" / "graph"
PREFIX = "com.microsoft.outlook.Mail."
DOCUMENTED = {
    "SMIMEEnabled": bool,
    "SMIMEEnabled.UserChangeAllowed": bool,
    "SMIMEEnabled.EncryptAllMail": bool,
    "SMIMEEnabled.EncryptAllMail.UserChangeAllowed": bool,
    "SMIMEEnabled.SignAllMail": bool,
    "SMIMEEnabled.SignAllMail.UserChangeAllowed": bool,
    "SMIMEEnabled.LDAPHostName": str,
}


def values(**chosen: Any) -> dict[str, Any]:  # noqa: ANN401  booleans and a text
    found = outlook.settings(**{"sign": False, "encrypt": False, "users_may_change": True, "ldap": None, **chosen})
    return {setting.key.removeprefix(PREFIX): setting.value for setting in found}


def test_every_key_is_documented_and_of_its_type() -> None:
    found = values(ldap="ldap.example.org")
    assert {key: type(value) for key, value in found.items()} == DOCUMENTED


def test_the_plainest_settings_turn_on_what_is_off_and_change_nothing_else() -> None:
    found = outlook.settings(sign=False, encrypt=False, users_may_change=True, ldap=None)
    assert [setting.key for setting in found if setting.value != setting.default] == [f"{PREFIX}SMIMEEnabled"]


@pytest.mark.parametrize(
    ("chosen", "changed"),
    [
        ({"sign": True}, {"SMIMEEnabled.SignAllMail": True}),
        ({"encrypt": True}, {"SMIMEEnabled.EncryptAllMail": True}),
        ({"users_may_change": False}, {key: False for key in DOCUMENTED if key.endswith("UserChangeAllowed")}),
        ({"ldap": "ldaps://LDAP.example.org:0636"}, {"SMIMEEnabled.LDAPHostName": "ldaps://ldap.example.org:636"}),
    ],
)
def test_a_choice_changes_its_keys_and_no_other(chosen: dict[str, Any], changed: dict[str, Any]) -> None:
    assert values(**chosen) == {**values(), **changed}


@pytest.mark.parametrize(
    "place",
    [
        "contoso.com",
        "contoso.com:636",
        "ldaps://contoso.com",
        "ldaps://contoso.com:636",
        "ldap://contoso.com:389",
        "ldap1",
        "192.0.2.255:65535",
        "contoso.com:1",
    ],
)
def test_every_form_that_microsoft_names_is_taken(place: str) -> None:
    assert outlook.host(place) == place


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("", "not a host name"),
        ("https://contoso.com", "not an LDAP scheme"),
        ("ldapi://%2fvar%2frun", "not an LDAP scheme"),
        ("ldaps://contoso.com/", "a path"),
        ("ldaps://contoso.com/dc=contoso,dc=com??sub", "a path"),
        ("contoso.com?mail", "a path"),
        ("ldaps://cn=reader:secret@contoso.com", "has an account"),
        ("contoso.com:0", "0 is not a port number"),
        ("contoso.com:65536", "65536 is not a port number"),
        ("contoso.com:ldaps", "not a host name"),
        ("ldap://", "not a host name"),
        ("con toso.com", "not a host name"),
        ("contoso..com", "not a host name"),
        ("-contoso.com", "not a host name"),
        ("contoso.com\n", "not a host name"),
        ("contoso\u202e.com", "not a host name"),
        ("cont\u00f6so.com", "not a host name"),
        ("192.0.2.256", "not a host name"),
        ("192.0.2.07", "not a host name"),
        ("192.0.2.700", "not a host name"),
        ("192.0.2", "not a host name"),
        ("[2001:db8::1]:636", "not a host name"),
        ("a" * 64 + ".com", "not a host name"),
    ],
)
def test_anything_else_is_refused_with_a_reason(place: str, reason: str) -> None:
    with pytest.raises(outlook.BadHost, match=reason) as caught:
        outlook.host(place)
    assert "\u202e" not in str(caught.value)
    assert "secret" not in str(caught.value)


@given(st.text(max_size=40))
def test_whatever_is_written_it_is_a_plain_place_or_refused(text: str) -> None:
    try:
        found = outlook.host(text)
    except outlook.BadHost:
        return
    assert outlook.host(found) == found
    assert found.isascii()
    assert not set("/@? \n") & set(found.partition("://")[2] or found)


@pytest.mark.parametrize(
    ("place", "warned"),
    [
        ("ldap://contoso.com", True),
        ("contoso.com:389", True),
        ("ldap://contoso.com:636", True),
        ("contoso.com", False),
        ("contoso.com:636", False),
        ("ldaps://contoso.com:389", False),
        ("contoso.com:1389", False),
    ],
)
def test_a_directory_without_tls_is_worth_a_warning(place: str, *, warned: bool) -> None:
    found = outlook.settings(sign=False, encrypt=False, users_may_change=True, ldap=place)
    assert [diagnostic.area for diagnostic in outlook.remarks(found) if diagnostic.level == "warning"] == ["ldap"] * warned


def test_what_binds_people_is_worth_a_warning() -> None:
    found = outlook.settings(sign=True, encrypt=True, users_may_change=False, ldap=None)
    assert [diagnostic.area for diagnostic in outlook.remarks(found) if diagnostic.level == "warning"] == ["encryption", "freedom"]


@pytest.mark.parametrize(("sign", "free", "warned"), [(True, False, ["freedom"]), (True, True, []), (False, False, []), (False, True, [])])
def test_only_what_people_cannot_turn_off_binds_them(*, sign: bool, free: bool, warned: list[str]) -> None:
    found = outlook.settings(sign=sign, encrypt=False, users_may_change=free, ldap=None)
    assert [diagnostic.area for diagnostic in outlook.remarks(found) if diagnostic.level == "warning"] == warned


def test_every_form_says_the_same() -> None:
    found = outlook.settings(sign=True, encrypt=False, users_may_change=False, ldap="ldaps://contoso.com")
    want = {setting.key: setting.value for setting in found}
    listed = plistlib.loads(plistlib.dumps(outlook.plist(found)))
    robot: Any = outlook.android(found)
    assert listed == want
    assert {row["key"]: row.get("valueBool", row.get("valueString")) for row in robot["managedProperty"]} == want
    texts = {key: json.dumps(value).strip('"') for key, value in want.items()}
    assert {row["appConfigKey"]: row["appConfigKeyValue"] for row in outlook.ios(found)} == texts
    assert {row["name"]: row["value"] for row in outlook.apps(found)} == texts


def test_intunes_own_schema_takes_the_settings_for_ios() -> None:
    document = yaml.safe_load((GRAPH / "openapi-v1.yaml").read_text(encoding="utf-8"))
    schema = {"$ref": "#/components/schemas/iosMobileAppConfiguration", "components": document["components"]}
    found = outlook.settings(sign=True, encrypt=False, users_may_change=False, ldap="ldaps://contoso.com")
    check = Draft202012Validator(schema).is_valid
    assert check({"@odata.type": "#microsoft.graph.iosMobileAppConfiguration", "settings": outlook.ios(found)})
    assert not check({"@odata.type": "#microsoft.graph.iosMobileAppConfiguration", "settings": outlook.apps(found)})


def test_a_setting_tells_what_its_value_does_not_what_the_key_is_for() -> None:
    off = outlook.settings(sign=False, encrypt=True, users_may_change=False, ldap=None)
    assert [setting.means for setting in off] == [
        "S/MIME is on",
        "people cannot turn S/MIME off",
        "by default, messages are not signed",
        "people cannot change signing",
        "all messages are encrypted",
        "people cannot change encryption",
    ]
