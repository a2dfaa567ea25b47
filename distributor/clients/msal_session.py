"""The requests session for msal: the system's trust and SSL_CERT_FILE, time-outs, no redirects, and a record of the last response.

requests itself trusts certifi, or whatever REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE name, and knows no time-out. Proxies of the
environment are kept; a password of ~/.netrc is not sent.
"""

from __future__ import annotations

import json
import re
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests
from requests.adapters import HTTPAdapter

from distributor.model.redaction import Redactor

LONGEST_TEXT = 16 * 2**10  # characters of a text in a response that are used
_PROOF = re.compile(r"(?:secret|assertion|token|password|device_code|authorization|identity-header)$", re.IGNORECASE)
PATIENCE = 30.0  # seconds, for connecting and for each wait for the answer


@dataclass(frozen=True, slots=True)
class LastResponse:
    """Status and text of a response; the text only of an error, since others contain a token."""

    status: int
    text: str = field(default="", repr=False)


class RecordingSession(requests.Session):
    """Kept connections with fixed TLS trust. `proxies` False: for the identity service of this machine."""

    def __init__(self, *, proxies: bool = True) -> None:
        super().__init__()
        self.redact = Redactor()
        self.trust_env = proxies
        self.auth = _as_it_is
        self.mount("https://", _Trusting(ssl.create_default_context()))
        self.last: LastResponse | None = None

    def request(self, method: str, url: str | bytes, *args: Any, **more: Any) -> requests.Response:  # noqa: ANN401  requests' own
        """One request, as msal makes it."""
        self.last = None
        self.redact = Redactor(_secrets(more))
        response = super().request(method, url, *args, **{**more, "timeout": PATIENCE, "allow_redirects": False})
        self.last = LastResponse(response.status_code, response.text if response.status_code >= 300 else "")  # noqa: PLR2004
        return response

    def redacted(self, body: Mapping[str, object]) -> Mapping[str, object]:
        """The body of the last response without the credentials of its request."""
        return {name: self.redact(value[:LONGEST_TEXT]) if isinstance(value, str) else value for name, value in body.items()}


def _secrets(request: Mapping[str, Any]) -> Iterator[str]:
    """The credentials in a request of msal: values of its form, and headers for a machine's identity service."""
    for part in ("data", "headers"):
        fields = request.get(part)
        for name, value in fields.items() if isinstance(fields, Mapping) else ():
            if _PROOF.search(str(name)) and isinstance(value, str | bytes):
                text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
                yield text.removeprefix("Bearer ").removeprefix("Basic ")


def _as_it_is(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


class _Trusting(HTTPAdapter):
    def __init__(self, trust: ssl.SSLContext) -> None:
        self._trust = trust
        super().__init__()

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: object, cert: object = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Our context, whatever the session or the environment asks for."""
        del verify, cert
        host, _ = super().build_connection_pool_key_attributes(request, verify=True)
        return host, {"cert_reqs": "CERT_REQUIRED", "ssl_context": self._trust}

    def cert_verify(self, conn: Any, url: str, verify: object, cert: object) -> None:  # noqa: ANN401  urllib3's pool
        """The context does it."""


def json_object(text: str) -> Mapping[str, object]:
    """A response's JSON object; empty where it is none."""
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
