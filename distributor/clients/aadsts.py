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


_LOG = "see the app's sign-in log in Entra, and look up the code at https://login.microsoftonline.com/error"
_LATE = ("the code expired before anyone signed in", "run the command again, and enter the code before it expires")
_AGAIN = "run the same command again in a few minutes"
_CERTIFICATES = "Entra, App registrations, Certificates & secrets"
_PERSON = "sign in with an account that has access, or set up a certificate for the app to sign in with"
_FEDERATED = f"compare the federated credential ({_CERTIFICATES}) with the issuer, subject and audience of the token in `{{key}}.assertion`"
_POLICY = "allow the app to sign in from this network: Entra, Conditional Access; the app's sign-in log names the policy"

# number -> (message, hint); {…} are the fields of ErrorContext. Meanings from Entra's list of error codes.
TABLE: dict[int, tuple[str, str]] = {
    7000215: ("wrong secret", "check `{key}.secret`: it must be the secret's value, not its ID"),
    7000222: ("the secret has expired", f"create a new one ({_CERTIFICATES}) and store its value in `{{key}}.secret`"),
    7000218: ("the app is not allowed to sign people in", "allow public client flows: Entra, App registrations, Authentication"),
    700027: ("the certificate is not registered with the app", f"upload the public half of `{{key}}.certificate`: {_CERTIFICATES}"),
    700030: (
        "the certificate belongs to another cloud or another app",
        "check `{key}.login`, and that `{key}.certificate` is the app's own",
    ),
    700016: (
        'the tenant has no app "{client_id}"',
        "check `{key}.client_id` (the application ID, not an object ID) and `{key}.tenant`",
    ),
    7000112: ("the app is disabled", "enable it: Entra, Enterprise applications, Properties"),
    7000229: ("the app has no service principal in the tenant", "grant admin consent to the app, which creates one"),
    90002: (
        'there is no tenant "{tenant}"',
        "check `{key}.tenant` (the tenant ID or a domain), and `{key}.login` for a national cloud",
    ),
    900023: ('"{tenant}" is not a tenant ID or domain', "set `{key}.tenant` to the tenant ID or one of its domains"),
    900382: (
        "the tenant is in another cloud",
        "set `{key}.login` to that cloud's sign-in service, such as https://login.microsoftonline.us",
    ),
    500011: (
        'the tenant has no service "{resource}"',
        "check the address of the service, which differs in national clouds; to send, the tenant needs Exchange Online",
    ),
    1002012: ('"{resource}" is not a valid service for a token', "write only the root of the service, such as https://graph.microsoft.com"),
    70011: ('"{resource}" is not a valid service for a token', "write only the root of the service, such as https://graph.microsoft.com"),
    65001: ("the app's permissions have no consent", "grant admin consent: Entra, App registrations, API permissions"),
    65004: ("the person did not consent to the app's permissions", "grant admin consent: Entra, App registrations, API permissions"),
    50105: ("the account is not assigned to the app", "assign it: Entra, Enterprise applications, Users and groups"),
    501051: (
        'the app has no role at "{resource}"',
        "add the permission (Mail.Send of Graph, SMTP.SendAsApp of Exchange Online) and grant admin consent",
    ),
    70021: ("the app has no federated credential for the token's issuer", _FEDERATED),
    700211: ("the token's issuer does not match the app's federated credential", _FEDERATED),
    700212: ("the token's audience does not match the app's federated credential", _FEDERATED),
    700213: ("the token's subject does not match the app's federated credential", _FEDERATED),
    700024: (
        "the client assertion has expired or is not valid yet",
        "check this machine's clock; a token in `{key}.assertion` must be renewed by the platform",
    ),
    700023: ("the client assertion has the wrong audience", "check `{key}.login` and `{key}.tenant`"),
    50013: (
        "the client assertion has an invalid signature",
        "check `{key}.tenant`, and that the issuer of the token in `{key}.assertion` publishes its keys",
    ),
    50027: ("the client assertion is damaged", "check the file in `{key}.assertion`"),
    53003: ("conditional access blocks this sign-in", _POLICY),
    530032: ("a security policy of the tenant blocks this sign-in", _POLICY),
    53000: ("conditional access requires a managed device", _POLICY),
    53001: ("conditional access requires a domain-joined device", _POLICY),
    50034: ("the tenant has no such account", "check the account's name, and `{key}.tenant`"),
    50055: ("the account's password has expired", "change it at https://myaccount.microsoft.com, then sign in again"),
    50057: ("the account is disabled", _PERSON),
    50076: (
        "the account must sign in with a second factor",
        "sign in again with the second factor, or set up a certificate for the app to sign in with",
    ),
    50079: ("the account must register a second factor", "register it at https://aka.ms/mfasetup, then sign in again"),
    50126: ("wrong account name or password", "sign in again"),
    50194: ("the app belongs to a single tenant, which is not set", "set `{key}.tenant` to the tenant ID"),
    70016: _LATE,
    70018: ("the code was entered wrongly", "run the command again, and enter the code it shows"),
    70019: _LATE,
    70020: _LATE,
    700082: ("the sign-in expired because it was not used", "sign in again"),
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
        return Verdict(f"the sign-in service asks to try again later ({_name(code, status)})", _AGAIN, later=True)
    names = {"key": words.key, "tenant": bounded(words.tenant), "client_id": bounded(words.client_id), "resource": bounded(words.resource)}
    if known := DECLINED if body.get("error") == "authorization_declined" else TABLE.get(code or 0):
        message, hint = known
        return Verdict(f"{message.format(**names)} ({_name(code, status)})", hint.format(**names))
    sentence = _sentence(body)
    message = f"sign-in refused ({_name(code, status)})" + (f': "{sentence}"' if sentence else "")
    return Verdict(message, _LOG if code else f"check `{words.key}.login` and `{words.key}.tenant`, and any proxy in between")


def _name(code: int | None, status: int) -> str:
    return f"AADSTS{code}" if code else f"HTTP {status}"


def _sentence(body: Mapping[str, object]) -> str:
    text = _TAIL.sub("", str(body.get("error_description") or body.get("error") or "")).rstrip()
    text = _NUMBER.sub("", text).lstrip(": ")
    first = bounded(re.split(r"(?<=[.!?])\s", text, maxsplit=1)[0]).rstrip(".")
    return first if len(first) <= LONGEST_SENTENCE else first[: LONGEST_SENTENCE - 1] + "…"
