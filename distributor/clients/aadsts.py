"""Entra's error response to a sign-in -> a message and a hint. Pure.

Error numbers in the table (AADSTS…) have their own message; others are shown by number and first sentence, without trace ids.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from distributor.model.people import bounded

LONGEST_SENTENCE = 200  # characters
_NUMBER = re.compile(r"AADSTS(\d{4,8})")
_TAIL = re.compile(r"(?:Trace ID:|Correlation ID:|Timestamp:).*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ErrorContext:
    """The values that a message may name; `key`: the dotted name of the table in the configuration."""

    key: str
    tenant: str
    client_id: str
    resource: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """`later`: a temporary failure; nothing is wrong with the configuration."""

    message: str
    hint: str
    later: bool = False


_LOG = "look at the app's sign-in log in Entra, and the number up at https://login.microsoftonline.com/error"
_LATE = ("nobody signed in while the code was valid", "run the command again, and enter the code within its time")
_AGAIN = "run the same command again in a few minutes"
_CERTIFICATES = "Entra, App registrations, Certificates & secrets"
_PERSON = "sign in with an account that may, or let the app sign in for itself with a certificate"
_FEDERATED = f"compare the federated credential ({_CERTIFICATES}) with the issuer, subject and audience of the token in `{{key}}.assertion`"
_POLICY = "let the app sign in from here: Entra, Conditional Access, and the policy's name in the app's sign-in log"

# number -> (message, hint); {…} are the fields of ErrorContext. Meanings from Entra's list of error codes.
TABLE: dict[int, tuple[str, str]] = {
    7000215: ("the secret is wrong", "check `{key}.secret`: the secret's ID was perhaps copied instead of its value"),
    7000222: ("the secret has expired", f"make a new one ({_CERTIFICATES}) and put its value behind `{{key}}.secret`"),
    7000218: ("the app is not allowed to sign people in", "allow public client flows: Entra, App registrations, Authentication"),
    700027: ("the certificate is not registered with the app", f"upload the public half of `{{key}}.certificate`: {_CERTIFICATES}"),
    700030: (
        "the certificate belongs to another cloud, or to another app",
        "check `{key}.login`, and that `{key}.certificate` is the app's own",
    ),
    700016: (
        'the tenant has no app "{client_id}"',
        "check `{key}.client_id` (the application ID, not an object ID) and `{key}.tenant`",
    ),
    7000112: ("the app is disabled", "enable it: Entra, Enterprise applications, Properties"),
    7000229: ("the app has no service principal in the tenant", "let an administrator consent to the app, which makes one"),
    90002: (
        'there is no tenant "{tenant}"',
        "check `{key}.tenant` (its directory ID or a domain), and `{key}.login` for a national cloud",
    ),
    900023: ('"{tenant}" is no name of a tenant', "write the directory ID or a domain of it into `{key}.tenant`"),
    900382: ("this tenant lives in another cloud", "set `{key}.login` to that cloud's, such as https://login.microsoftonline.us"),
    500011: (
        'the tenant knows no service "{resource}"',
        "check the service's address; in a national cloud it is another one. A tenant without Exchange Online has none to send with",
    ),
    1002012: ('"{resource}" is not what a token can be for', "write the service's root alone, such as https://graph.microsoft.com"),
    70011: ('"{resource}" is not what a token can be for', "write the service's root alone, such as https://graph.microsoft.com"),
    65001: ("nobody has consented to the app's permissions", "grant admin consent: Entra, App registrations, API permissions"),
    65004: ("the person did not consent to the app's permissions", "grant admin consent: Entra, App registrations, API permissions"),
    50105: ("the app is for chosen accounts, and this is none", "assign it: Entra, Enterprise applications, Users and groups"),
    501051: (
        'the app has no role at "{resource}"',
        "give it the permission (Mail.Send at Graph, SMTP.SendAsApp at Exchange Online) and grant admin consent",
    ),
    70021: ("the app trusts no issuer of the token that stands for it", _FEDERATED),
    700211: ("the issuer of the token is not the one that the app trusts", _FEDERATED),
    700212: ("the audience of the token is not the one that the app expects", _FEDERATED),
    700213: ("the subject of the token is not the one that the app trusts", _FEDERATED),
    700024: (
        "the proof of the app is too old or too early",
        "set this machine's clock; a token in `{key}.assertion` is to be renewed by whoever writes it",
    ),
    700023: ("the proof of the app is made for another sign-in service", "check `{key}.login` and `{key}.tenant`"),
    50013: (
        "the signature of the proof is not valid",
        "the issuer of the token in `{key}.assertion` has to publish its keys; check `{key}.tenant`",
    ),
    50027: ("the token that stands for the app is damaged", "look into the file that `{key}.assertion` names"),
    53003: ("conditional access forbids this sign-in", _POLICY),
    530032: ("a policy of the tenant's security forbids this sign-in", _POLICY),
    53000: ("conditional access wants a device that the organisation manages", _POLICY),
    53001: ("conditional access wants a device that has joined the domain", _POLICY),
    50034: ("the tenant has no such account", "check the account's name, and `{key}.tenant`"),
    50055: ("the account's password has expired", "change it at https://myaccount.microsoft.com, then sign in again"),
    50057: ("the account is disabled", _PERSON),
    50076: ("the account has to sign in with a second factor", "sign in again and confirm it, or let the app sign in for itself"),
    50079: ("the account has to register a second factor", "register it at https://aka.ms/mfasetup, then sign in again"),
    50126: ("the account's name or password is wrong", "sign in again"),
    50194: ("the app belongs to one tenant, and that was not named", "write the directory ID into `{key}.tenant`"),
    70016: _LATE,
    70018: ("the code was entered wrongly", "run the command again, and enter the code that it shows"),
    70019: _LATE,
    70020: _LATE,
    700082: ("the sign-in was not used for too long", "sign in again"),
}
LATER = frozenset({90006, 90012, 90033, 90055, 50196})  # federated server, time-out, transient error, too many requests (the last two)
DECLINED = ("the sign-in was declined", "run the command again, and approve it")  # OAuth's authorization_declined, whatever its number


def number(body: Mapping[str, object]) -> int | None:
    """The number after AADSTS, from `error_codes` or the description."""
    codes = body.get("error_codes")
    if isinstance(codes, list) and codes and isinstance(codes[0], int):
        return codes[0]
    found = _NUMBER.search(str(body.get("error_description", "")))
    return int(found[1]) if found else None


def explain(body: Mapping[str, object], status: int, words: ErrorContext) -> Verdict:
    """`body`: the JSON of Entra's response; `status`: its HTTP status."""
    code = number(body)
    if code in LATER or status == 429 or status >= 500 or body.get("error") == "temporarily_unavailable":  # noqa: PLR2004
        return Verdict(f"the sign-in service asks to come later ({_name(code, status)})", _AGAIN, later=True)
    names = {"key": words.key, "tenant": bounded(words.tenant), "client_id": bounded(words.client_id), "resource": bounded(words.resource)}
    if known := DECLINED if body.get("error") == "authorization_declined" else TABLE.get(code or 0):
        message, hint = known
        return Verdict(f"{message.format(**names)} ({_name(code, status)})", hint.format(**names))
    sentence = _sentence(body)
    message = f"the sign-in is refused ({_name(code, status)})" + (f': "{sentence}"' if sentence else "")
    return Verdict(message, _LOG if code else f"check `{words.key}.login` and `{words.key}.tenant`, and what is between them and here")


def _name(code: int | None, status: int) -> str:
    return f"AADSTS{code}" if code else f"HTTP {status}"


def _sentence(body: Mapping[str, object]) -> str:
    text = _TAIL.sub("", str(body.get("error_description") or body.get("error") or "")).rstrip()
    text = _NUMBER.sub("", text).lstrip(": ")
    first = bounded(re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0]).rstrip(".")
    return first if len(first) <= LONGEST_SENTENCE else first[: LONGEST_SENTENCE - 1] + "…"
