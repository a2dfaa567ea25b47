"""The exception of a failed connection -> the reason in plain words. Libraries wrap exceptions, so the whole chain is searched."""

from __future__ import annotations

import base64
import os
import socket
import ssl
from collections.abc import Iterator
from urllib.parse import unquote

from distributor.model.people import bounded
from distributor.model.redaction import Redactor

TRUST = "name the service as its certificate does, or trust its issuer: SSL_CERT_FILE=issuer.pem"
REACH = "check the network, a proxy's HTTPS_PROXY and NO_PROXY, and the service's name"
_CUT = ("disconnected", "closed", "reset", "incomplete", "broken", "aborted")


def reason(error: BaseException, seconds: float) -> str:
    """Why there is no response; `seconds`: the time-out."""
    chain = list(_chain(error))
    known = next(filter(None, (_known(each, seconds) for each in chain)), None)
    if any("proxy" in type(each).__name__.lower() for each in chain):
        return f"the proxy: {known or bounded(Redactor(_of_proxies())(str(chain[-1])))}"
    return known or _guessed(" ".join(str(each) for each in chain).lower())


def _of_proxies() -> Iterator[str]:
    """The passwords of the environment's proxies, alone and as in Proxy-Authorization."""
    from urllib.request import getproxies  # noqa: PLC0415  slow to load, and needed only here

    for url in getproxies().values():
        named, at, _ = url.rpartition("://")[2].rpartition("@")
        if at:
            yield unquote(named.partition(":")[2])
            yield base64.b64encode(unquote(named).encode()).decode()


def _guessed(words: str) -> str:
    return "the connection was cut" if not words.strip() or any(word in words for word in _CUT) else "an answer that makes no sense"


def untrusted(error: BaseException) -> bool:
    """Whether the verification of the service's certificate failed."""
    return any(isinstance(each, ssl.SSLCertVerificationError) for each in _chain(error))


def _known(error: BaseException, seconds: float) -> str | None:  # noqa: PLR0911  a line a reason
    match error:
        case ssl.SSLCertVerificationError(verify_message=why):
            return f'the certificate is not trusted: "{bounded(why)}"'
        case ssl.SSLEOFError():
            return "the connection was cut"
        case ssl.SSLError(reason=str(why)):
            return f"TLS failed: {bounded(why.replace('_', ' ').lower())}"
        case socket.gaierror():
            return "no such host"
        case TimeoutError():
            return f"no answer in {seconds:g} s"
        case OSError(errno=int(number)) if number > 0:
            return os.strerror(number).lower()
        case _ if "timeout" in type(error).__name__.lower():
            return f"no answer in {seconds:g} s"
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those that it wraps, the innermost last; of a group its first."""
    while error is not None:
        yield error
        inner = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else None
        error = inner or error.__cause__ or error.__context__
