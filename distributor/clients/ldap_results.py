"""An LDAP result or a connection failure -> an Error with place and hint."""

from __future__ import annotations

import os
import re
import ssl
from dataclasses import dataclass

from distributor.errors import Error, InvalidInput, ServiceUnavailable
from distributor.model.people import escape_unsafe
from distributor.model.redaction import Redactor

LONGEST_TEXT = 16 * 2**10  # characters of a server's message that are used
LONGEST = 300  # characters of a server's message that are shown
SUCCESS, SIZE_LIMIT, NO_SUCH_ATTRIBUTE, VALUE_EXISTS = 0, 4, 16, 20  # result codes, RFC 4511 appendix A
OPERATIONS_ERROR, TIME_LIMIT, STRONGER_AUTH, REFERRAL, ADMIN_LIMIT, CONFIDENTIALITY = 1, 3, 8, 10, 11, 13
NO_SUCH_OBJECT, INVALID_DN, NO_RIGHT = 32, 34, 50
_ERRNO = re.compile(r"\[Errno (\d+)\] ?")
_PREFIX = re.compile(r"^[a-z ]+(?:error|opening|data|request)\b[^:]*: ")


@dataclass(frozen=True, slots=True)
class LdapResult:
    """An LDAP result other than success: its code (RFC 4511 appendix A), the code's name, and the server's message."""

    code: int
    name: str
    text: str = ""

    def __str__(self) -> str:
        words = " ".join(filter(None, (_spaced(self.name), f'("{self.text}")' if self.text else "")))
        return f"{words} [{self.code}]"


def ldap_result(result: object, redact: Redactor) -> LdapResult:
    """From ldap3's result. `redact` removes our credentials, which a server may repeat."""
    values = result if isinstance(result, dict) else {}
    words = str(values.get("message") or "").split("\x00", maxsplit=1)[0]
    text = " ".join(redact(words[:LONGEST_TEXT]).split())
    return LdapResult(int(values.get("result", -1)), str(values.get("description", "")), escape_unsafe(text[:LONGEST]))


def not_signed_in(no: LdapResult, where: str, key: str) -> Error:
    """The error of a refused bind."""
    return ServiceUnavailable(f"the sign-in is refused: {no}", where=where, hint=f"check `{key}.bind` and `{key}.password`")


def refused(no: LdapResult, where: str, key: str, base: str) -> Error:
    """The error of a refused search."""
    if no.code in {NO_SUCH_OBJECT, INVALID_DN}:
        return InvalidInput(f'there is no entry "{base}" that we may see: {no}', where=where, hint=f"correct `{key}.base`")
    if no.code in {TIME_LIMIT, SIZE_LIMIT, ADMIN_LIMIT}:
        hint = "let this bind DN read all (slapd: `limits` with size=unlimited), or narrow `filter`"
        return ServiceUnavailable(f"the server gives only a part: {no}", where=where, hint=hint)
    if no.code == REFERRAL:
        hint = f"name that server in `{key}.url`; referrals are not followed"
        return ServiceUnavailable(f"the server refers to another one: {no}", where=where, hint=hint)
    if no.code in {NO_RIGHT, OPERATIONS_ERROR, STRONGER_AUTH, CONFIDENTIALITY}:
        return ServiceUnavailable(
            f"the server does not let us: {no}", where=where, hint=f"give the entry in `{key}.bind` the right to, or sign in"
        )
    return ServiceUnavailable(f"the server refuses: {no}", where=where, hint="look into the server's log; the same command may be repeated")


def broken(error: BaseException, failed: BaseException | None, where: str, seconds: float) -> ServiceUnavailable:
    """The error of a failed or broken connection; `failed`: the exception of TLS, of which ldap3 keeps only the text."""
    match failed or error:
        case ssl.SSLCertVerificationError(verify_message=reason):
            hint = "name the server as its certificate does, or trust its issuer: SSL_CERT_FILE=issuer.pem"
            return ServiceUnavailable(f'the certificate is not trusted: "{escape_unsafe(str(reason))}"', where=where, hint=hint)
        case ssl.SSLError(reason=reason):
            hint = "ldaps:// is for port 636; with ldap:// StartTLS is asked for"
            return ServiceUnavailable(f"TLS failed: {str(reason or 'no reason').replace('_', ' ').lower()}", where=where, hint=hint)
        case _:
            return ServiceUnavailable(_plain(error, seconds), where=where, hint="check `url`, and that the server runs and can be reached")


def _plain(error: BaseException, seconds: float) -> str:
    text = _innermost(error)
    if found := _ERRNO.search(text):
        return os.strerror(int(found[1])).lower()
    lower = text.lower()
    if "timed out" in lower or "temporarily unavailable" in lower:
        return f"no answer in {seconds:g} s"
    if "terminated by server" in lower:
        return "the connection was cut"
    if "invalid server address" in lower:
        return "the name cannot be resolved"
    plain = escape_unsafe(_PREFIX.sub("", text)[:LONGEST]).rstrip(".") or type(error).__name__
    return plain[0].lower() + plain[1:]


def _innermost(error: BaseException) -> str:
    """Of several addresses that were tried, the first one's failure."""
    history = error.args[1] if len(error.args) > 1 else None
    if isinstance(history, list) and history and isinstance(history[0], tuple):
        return str(history[0][0])
    return str(error.args[0]) if error.args else str(error)


def _spaced(name: str) -> str:
    """`noSuchObject` as `no such object`."""
    return re.sub(r"(?<=[a-z])([A-Z])", lambda found: f" {found[1].lower()}", name)
