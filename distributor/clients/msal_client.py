"""An app registration -> access tokens, by msal. Blocks, and is heavy to load: entra.py calls it in a thread, one call at a time.

msal caches tokens in memory only. It also caches a 400 of Entra for 60 s; that is dropped here, since the cause may have been fixed.
Its cache of a 429 or 5xx (for Retry-After, at most an hour) stays.
"""

from __future__ import annotations

import json
import logging
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import msal  # type: ignore[import-untyped]  # it comes without types
import requests
from requests.adapters import HTTPAdapter

from distributor.clients import aadsts
from distributor.clients.app_registration import AccessToken, AppRegistration, CallerContext, SignInUnavailable, claims
from distributor.clients.client_certificate import load_signing_key
from distributor.clients.http import REACH, TRUST, describe_error, untrusted
from distributor.errors import Error, InvalidInput, ServiceUnavailable
from distributor.files.reader import FileRefused, read_file
from distributor.model.people import bounded
from distributor.model.redaction import Redactor
from distributor.model.secret import Secret

# --- msal session --------------------------------------------------------------------------------
# The requests session for msal: the system's trust and SSL_CERT_FILE, time-outs, no redirects, and a record of the last response.
#
# requests itself trusts certifi, or whatever REQUESTS_CA_BUNDLE and CURL_CA_BUNDLE name, and knows no time-out. Proxies of the
# environment are kept; a password of ~/.netrc is not sent.


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


_FROM_MEMORY = 429  # msal answered from its cache of a 429 or 5xx
LARGEST_ASSERTION = 64 * 2**10  # bytes
_MACHINE = "the machine's identity service"
Result = dict[str, Any]

logging.getLogger("msal").propagate = False  # it would log responses
logging.getLogger("msal").addHandler(logging.NullHandler())


class AuthFlow(Protocol):
    """Acquires a token by one OAuth flow."""

    def __call__(self, resource: str, view: CallerContext, *, again: bool) -> Result:
        """Returns msal's result: a dictionary with `access_token`, or with `error`. `again`: not from its cache."""
        ...


class Application:
    """One msal application, created at the first request, because msal then downloads Entra's endpoints."""

    def __init__(self, sign_in: AppRegistration) -> None:
        self._sign_in = sign_in
        self._session = RecordingSession(proxies=not sign_in.managed_identity)
        self._http_cache: dict[str, Any] = {}  # msal's
        self._acquire: AuthFlow | None = None
        self._flow: dict[str, Any] = {}  # of the device code that a person should enter

    def token(self, resource: str, view: CallerContext, *, again: bool) -> AccessToken:
        """A new token. Raises ServiceUnavailable."""
        self._session.last = None
        try:
            self._acquire = self._acquire or self._made(view)
            result = self._acquire(resource, view, again=again)
        except Error:
            raise
        except Exception as error:  # noqa: BLE001  requests' errors, msal's, and any that a malformed response causes in msal
            raise self._translated(error, resource, view) from None
        finally:
            self._after_request()
        if isinstance(result, dict) and isinstance(text := result.get("access_token"), str):
            return _token(text, result)
        raise self._refused(result if isinstance(result, dict) else {}, resource, view)

    def give_up(self) -> None:
        """Stop waiting for a person to enter a device code."""
        self._flow["expires_at"] = 0

    def _after_request(self) -> None:
        if self._session.last is not None and self._session.last.status == 400:  # noqa: PLR2004
            self._http_cache.clear()
        self._session.close()  # until the next token, in an hour, a proxy would silently drop an idle connection

    # --- OAuth flows -----------------------------------------------------------------------------------------------

    def _made(self, view: CallerContext) -> AuthFlow:
        sign_in = self._sign_in
        if sign_in.managed_identity:
            return self._machine()
        authority = f"{sign_in.login.rstrip('/')}/{sign_in.tenant}"
        # instance discovery would ask login.microsoftonline.com whether the configured host is trusted; the configuration says so
        shared = {"authority": authority, "instance_discovery": False, "http_client": self._session, "http_cache": self._http_cache}
        if sign_in.device_code:
            return self._person(msal.PublicClientApplication(sign_in.client_id, **shared))
        proof = _proof(sign_in, view)
        return _app(msal.ConfidentialClientApplication(sign_in.client_id, client_credential=proof, **shared))

    def _machine(self) -> AuthFlow:
        name = self._sign_in.client_id
        identity = msal.UserAssignedManagedIdentity(client_id=name) if name else msal.SystemAssignedManagedIdentity()
        client: Any = None

        def acquire(resource: str, view: CallerContext, *, again: bool) -> Result:
            nonlocal client
            del view
            if client is None or again:  # its cache cannot be emptied
                client = msal.ManagedIdentityClient(identity, http_client=self._session, http_cache=self._http_cache)
            result: Result = client.acquire_token_for_client(resource=resource)
            return result

        return acquire

    def _person(self, client: Any) -> AuthFlow:  # noqa: ANN401  msal has no types
        def acquire(resource: str, view: CallerContext, *, again: bool) -> Result:
            scopes = [f"{resource}/.default"]
            for account in client.get_accounts():
                kept: Result | None = client.acquire_token_silent_with_error(scopes, account, force_refresh=again)
                if kept and "access_token" in kept:
                    return kept
            if view.tell is None:
                raise ServiceUnavailable(
                    "a person must sign in with a code, and this is not an interactive terminal", where=view.key, hint=_ALONE
                )
            flow: Result = client.initiate_device_flow(scopes)
            if "user_code" not in flow:
                return flow
            self._flow = flow
            view.tell(f"to sign in, open {bounded(str(flow['verification_uri']))} and enter the code {bounded(str(flow['user_code']))}")
            result: Result = client.acquire_token_by_device_flow(flow)
            return result

        return acquire

    # --- errors ----------------------------------------------------------------------------------------------------

    def _translated(self, error: Exception, resource: str, view: CallerContext) -> ServiceUnavailable:
        last, where = self._session.last, self._where()
        if isinstance(error, msal.exceptions.MsalServiceError) or (last is not None and last.status >= 300):  # noqa: PLR2004
            return self._refused(json_object(last.text) if last else {}, resource, view)
        if isinstance(error, OSError):  # requests' errors are
            hint = TRUST if untrusted(error) else _NO_MACHINE if self._sign_in.managed_identity else REACH
            return SignInUnavailable(describe_error(error, PATIENCE), where=where, hint=hint)
        return SignInUnavailable("unexpected response", where=where, hint=f"check `{view.key}.login`, and any proxy in between")

    def _refused(self, body: Mapping[str, object], resource: str, view: CallerContext) -> ServiceUnavailable:
        sign_in, last = self._sign_in, self._session.last
        words = aadsts.ErrorContext(view.key, sign_in.tenant, sign_in.client_id, resource)
        verdict = aadsts.explain(self._session.redacted(body), last.status if last else _FROM_MEMORY, words)
        hint = verdict.hint
        if sign_in.managed_identity and not verdict.later and aadsts.number(body) is None:
            hint = f"assign the identity to this machine, or correct `{view.key}.client_id`; check the service's address"
        kind = SignInUnavailable if verdict.later else ServiceUnavailable
        return kind(verdict.message, where=self._where(), hint=hint)

    def _where(self) -> str:
        return _MACHINE if self._sign_in.managed_identity else self._sign_in.login.partition("://")[2].rstrip("/")


_ALONE = "run the command in a terminal, or set up a certificate for the app to sign in with"
_NO_MACHINE = "use a managed identity only on an Azure (or Azure Arc) machine that has one; elsewhere use a certificate"


def _app(client: Any) -> AuthFlow:  # noqa: ANN401  msal has no types
    def acquire(resource: str, view: CallerContext, *, again: bool) -> Result:
        del view
        if again:
            client.remove_tokens_for_client()
        result: Result = client.acquire_token_for_client([f"{resource}/.default"])
        return result

    return acquire


def _proof(sign_in: AppRegistration, view: CallerContext) -> object:
    """The `client_credential` for msal."""
    if sign_in.secret is not None:
        return sign_in.secret.reveal()
    if sign_in.certificate is not None:
        try:
            found = load_signing_key(sign_in.certificate, sign_in.certificate_password, datetime.now(UTC))
        except InvalidInput as error:
            raise ServiceUnavailable(error.message, where=f"{view.key}.{error.where}", hint=error.hint) from None
        return {"private_key": found.key, "public_certificate": found.pem}  # without a thumbprint: SHA-256 (x5t#S256)
    return {"client_assertion": _assertion(sign_in, view)}


def _assertion(sign_in: AppRegistration, view: CallerContext) -> Callable[[], str]:
    """Reads the file at every use, since the platform renews it."""

    def read() -> str:
        path = sign_in.assertion
        try:
            text = read_file(str(path), LARGEST_ASSERTION, follow=True).decode("ascii").strip()
        except (FileRefused, UnicodeDecodeError) as error:
            why = error.message if isinstance(error, FileRefused) else "not a token"
            raise ServiceUnavailable(f'"{path}": {why}', where=f"{view.key}.assertion", hint=_FEDERATION) from None
        if not text:
            raise ServiceUnavailable(f'"{path}" is empty', where=f"{view.key}.assertion", hint=_FEDERATION)
        return text

    return read


_FEDERATION = "name the file to which the platform writes the workload's token, such as $AZURE_FEDERATED_TOKEN_FILE"


# --- tokens --------------------------------------------------------------------------------------------------------


def _token(text: str, result: Result) -> AccessToken:
    own = claims(text)
    roles, scopes = own.get("roles"), own.get("scp")
    lasts = result.get("expires_in")
    return AccessToken(
        Secret(text),
        frozenset(str(role) for role in roles) if isinstance(roles, list) else frozenset(),
        frozenset(scopes.split()) if isinstance(scopes, str) else frozenset(),
        datetime.fromtimestamp(time.time() + lasts, UTC) if isinstance(lasts, int) else None,
    )
