"""Signs people in at an OpenID Connect provider: authorization code with PKCE, by msal. Blocks, and is heavy to load.

msal's `oauth2cli` makes the request and exchanges the code; it compares state, nonce and `auth_time`, and checks nothing else of the ID
token. The rest is checked here (OpenID Connect Core 3.1.3.7, RFC 9207). `msal.ConfidentialClientApplication` does not serve: it refuses
issuers without a path, such as Google's, accepts an issuer of another path, and keeps everybody's tokens in memory.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import jwt
import requests
from msal.oauth2cli.oidc import Client  # type: ignore[import-untyped]  # it comes without types

from distributor.clients.app_registration import SignInUnavailable
from distributor.clients.http import REACH, TRUST, describe_error, untrusted
from distributor.clients.msal_client import PATIENCE, RecordingSession
from distributor.errors import Error, InvalidInput
from distributor.model.people import has_unsafe_chars
from distributor.model.requests import SignInAccount
from distributor.model.secret import Secret
from distributor.model.sign_in import SignedIn, SignInCancelled, SignInRefused

LARGEST = 512 * 2**10  # bytes of a metadata document or a key set; those of Entra have some ten thousand
LIFETIME = 6 * 3600.0  # seconds that the provider's metadata and keys are kept
BETWEEN = 60.0  # seconds between two downloads of the keys because of an unknown key id
SKEW = 120  # seconds that clocks may differ
FRESH = 300  # seconds since the person last proved who it is, after which a secret is not shown (ASVS 6.8.4)
SESSION = 8 * 3600  # seconds that a session of the portal lasts at most
LONGEST_SUBJECT = 255  # characters, OpenID Connect Core 2
MOST_GROUPS = 1000  # of a person that are looked at
SIGNING = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")  # never HMAC, never "none"
_ENTRA = re.compile(r"https?://[^/]+/([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})/v2\.0")
_CODE = re.compile(r"[a-z_]{1,40}")
_WHERE = "portal.authority"
_WARNINGS = threading.Lock()  # filters of warnings belong to the whole process


class OpenIdProvider:
    """An OpenID Connect provider, and this application as its client. Safe to call from several threads."""

    def __init__(self, authority: str, client_id: str, secret: Secret | None) -> None:
        self._authority, self._client_id, self._secret = authority.rstrip("/"), client_id, secret
        self._lock = threading.Lock()
        self._metadata: Mapping[str, Any] = {}
        self._keys: jwt.PyJWKSet | None = None
        self._read_at = self._keys_at = -LIFETIME

    def origins(self) -> tuple[str, ...]:
        """Schemes, hosts and ports of the authority, and of the authorization endpoint where that is another and known already."""
        places = map(urlsplit, (self._authority, str(self._metadata.get("authorization_endpoint", self._authority))))
        return tuple(dict.fromkeys(f"{parts.scheme}://{parts.netloc}" for parts in places))

    def read_metadata(self) -> None:
        """Read the provider's metadata. Raises SignInUnavailable, InvalidInput."""
        self.metadata()

    # --- the sign-in -----------------------------------------------------------------------------------------------

    def start(self, redirect_uri: str, *, fresh: bool) -> tuple[str, dict[str, Any]]:
        """The provider's URL to send a person to, and what `finish` needs later; `fresh`: signed in within the last five minutes."""
        client = self._client()
        entra = _ENTRA.fullmatch(str(self.metadata()["issuer"]))
        more: dict[str, Any] = {"max_age": FRESH if fresh else SESSION} if fresh or not entra else {}  # with it, providers send auth_time
        if entra:  # which leaves auth_time out unless it is asked for, or an optional claim of the app registration
            more["claims"] = '{"id_token":{"auth_time":{"essential":true}}}'
        with _WARNINGS, warnings.catch_warnings():
            # msal advises response_mode=form_post, a POST from another site: a browser sends no SameSite=Lax cookie with it
            warnings.simplefilter("ignore", UserWarning)
            flow: dict[str, Any] = client.initiate_auth_code_flow(["openid", "profile", "email"], redirect_uri=redirect_uri, **more)
        return str(flow.pop("auth_uri")), flow

    def finish(self, flow: dict[str, Any], answer: Mapping[str, str]) -> SignedIn:
        """Exchange the code for an ID token and check it. Raises SignInRefused, SignInCancelled, SignInUnavailable, InvalidInput."""
        metadata = self.metadata()
        self._check_response(metadata, flow, answer)
        session = RecordingSession()
        try:
            result = self._client(session).obtain_token_by_auth_code_flow(flow, dict(answer))
        except OSError as error:  # requests' errors are
            raise self._unreachable(error) from None
        except Exception:  # noqa: BLE001  msal's, whose texts name claims, and any that a malformed response causes in msal
            raise SignInRefused("state, nonce or auth_time do not match, or the response is malformed") from None
        finally:
            session.close()
        token = result.get("id_token")
        if not isinstance(token, str):
            raise SignInRefused(f"no ID token: {_error_code(result)}")
        claims = self._verified(token, metadata, flow)
        if "email" not in claims or "groups" not in claims:
            claims |= self._user_info(metadata, claims, result.get("access_token"))
        return _signed_in(claims)

    def _check_response(self, metadata: Mapping[str, Any], flow: Mapping[str, Any], answer: Mapping[str, str]) -> None:
        """State and issuer of the response, before anything in it is used."""
        if not flow.get("state") or answer.get("state") != flow["state"]:
            raise SignInRefused("the state does not match")
        needs_issuer = bool(metadata.get("authorization_response_iss_parameter_supported"))
        if (needs_issuer or "iss" in answer) and answer.get("iss") != metadata["issuer"]:
            raise SignInRefused("the response comes from another issuer")
        if "error" in answer:
            raise SignInCancelled(f"the provider answered {_error_code(answer)}")

    # --- the ID token ----------------------------------------------------------------------------------------------

    def _verified(self, token: str, metadata: Mapping[str, Any], flow: Mapping[str, Any]) -> dict[str, Any]:
        issuer = str(metadata["issuer"])
        try:
            header = jwt.get_unverified_header(token)
            algorithm = header.get("alg")
            if algorithm not in SIGNING:
                raise SignInRefused("the ID token is not signed with a public key")
            claims: dict[str, Any] = jwt.decode(
                token,
                self._key(metadata, header.get("kid")),
                algorithms=[algorithm],
                audience=self._client_id,
                issuer=issuer,
                leeway=SKEW,
                options={"require": ["iss", "sub", "aud", "exp", "iat", "nonce"]},
            )
        except jwt.PyJWTError as error:
            raise SignInRefused(f"the ID token is not valid: {type(error).__name__}") from None
        several = isinstance(claims["aud"], list) and len(claims["aud"]) > 1
        if claims.get("azp", None if several else self._client_id) != self._client_id:
            raise SignInRefused("the ID token was issued to another application")
        if claims["nonce"] != hashlib.sha256(str(flow["nonce"]).encode()).hexdigest():  # as msal sends it
            raise SignInRefused("the nonce does not match")
        tenant = _ENTRA.fullmatch(issuer)
        if tenant and claims.get("tid") != tenant[1]:
            raise SignInRefused("the account is of another tenant")
        if "max_age" in flow and not isinstance(claims.get("auth_time"), int):
            raise SignInRefused("no auth_time in the ID token; for Entra, add the optional claim auth_time to the app registration")
        return claims

    def _key(self, metadata: Mapping[str, Any], key_id: object) -> jwt.PyJWK:
        """The provider's key with this id; the keys are downloaded again, at most once a minute, where none has it."""
        for old in (BETWEEN, 0.0):
            keys = self._key_set(metadata, LIFETIME if old else BETWEEN)
            fitting = [key for key in keys.keys if key.public_key_use in {None, "sig"} and key_id in {None, key.key_id}]
            if len(fitting) == 1 or (fitting and key_id is not None):
                return fitting[0]
        raise SignInRefused("the ID token is signed with an unknown key")

    def _key_set(self, metadata: Mapping[str, Any], oldest: float) -> jwt.PyJWKSet:
        with self._lock:
            if self._keys is None or time.monotonic() - self._keys_at > oldest:
                document = self._get(str(metadata["jwks_uri"]))
                try:
                    self._keys = jwt.PyJWKSet.from_dict(dict(document))
                except jwt.PyJWTError:
                    raise InvalidInput("no usable keys in the provider's key set", where=_WHERE, hint=_CHECK) from None
                self._keys_at = time.monotonic()
            return self._keys

    def _user_info(self, metadata: Mapping[str, Any], claims: Mapping[str, Any], access: object) -> Mapping[str, Any]:
        """Claims that the provider has at its userinfo endpoint only; none of another subject, nor of Entra, which verifies no mail."""
        url = metadata.get("userinfo_endpoint")
        if not isinstance(url, str) or not isinstance(access, str) or _ENTRA.fullmatch(str(claims["iss"])):
            return {}
        found = self._get(url, access)
        if found.get("sub") != claims["sub"]:
            return {}
        more = {name: found[name] for name in {"groups", "name"} - claims.keys() if name in found}
        if "email" not in claims:  # both or neither: one source must not vouch for the address of the other
            more |= {"email": found.get("email"), "email_verified": found.get("email_verified")}
        return more

    # --- the provider's documents ----------------------------------------------------------------------------------

    def metadata(self) -> Mapping[str, Any]:
        """The provider's discovery document. Raises SignInUnavailable, InvalidInput."""
        with self._lock:
            if not self._metadata or time.monotonic() - self._read_at > LIFETIME:
                try:
                    found = self._get(f"{self._authority}/.well-known/openid-configuration")
                    self._check_metadata(found)
                except Error:
                    if not self._metadata:
                        raise
                    found = self._metadata  # for another while
                self._metadata, self._read_at = found, time.monotonic()
            return self._metadata

    def _check_metadata(self, found: Mapping[str, Any]) -> None:
        issuer, own = str(found.get("issuer", "")), urlsplit(self._authority)
        by_domain = _ENTRA.fullmatch(issuer) and issuer.startswith(f"{own.scheme}://{own.netloc}/") and own.path.endswith("/v2.0")
        if issuer.rstrip("/") != self._authority and not by_domain:
            hint = "write the issuer as the provider's metadata has it; for Entra https://login.microsoftonline.com/TENANT-ID/v2.0"
            raise InvalidInput("the provider's metadata names another issuer", where=_WHERE, hint=hint)
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            if not self._trusted(str(found.get(name, ""))):
                raise InvalidInput(f"the provider's metadata has no usable {name}", where=_WHERE, hint=_CHECK)

    def _trusted(self, url: str) -> bool:
        """https; http only on loopback, when the authority itself is there."""
        parts, own = urlsplit(url), urlsplit(self._authority)
        return bool(parts.hostname) and (parts.scheme == "https" or (own.scheme == "http" and parts.hostname == own.hostname))

    def _get(self, url: str, access: str | None = None) -> Mapping[str, Any]:
        """A JSON object by GET."""
        if not self._trusted(url):
            raise InvalidInput("the provider's metadata names an address without TLS", where=_WHERE, hint=_CHECK)
        headers = {"Accept": "application/json", **({"Authorization": f"Bearer {access}"} if access else {})}
        session = RecordingSession()
        try:
            with session.get(url, headers=headers, stream=True) as response:
                content = _content(response)
        except Error:
            raise
        except Exception as error:  # noqa: BLE001  requests' errors and urllib3's
            raise self._unreachable(error) from None
        finally:
            session.close()
        if response.status_code != 200:  # noqa: PLR2004
            raise SignInUnavailable(f"answered {response.status_code}", where=urlsplit(url).netloc, hint=_CHECK)
        try:
            found = json.loads(content) if len(content) <= LARGEST else None
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise SignInUnavailable("unexpected response", where=urlsplit(url).netloc, hint=_CHECK)
        return found

    def _unreachable(self, error: Exception) -> SignInUnavailable:
        hint = TRUST if untrusted(error) else REACH
        return SignInUnavailable(describe_error(error, PATIENCE), where=urlsplit(self._authority).netloc, hint=hint)

    def _client(self, session: RecordingSession | None = None) -> Any:  # noqa: ANN401  msal has no types
        secret = None if self._secret is None else self._secret.reveal()
        return Client(dict(self.metadata()), self._client_id, client_secret=secret, http_client=session or RecordingSession())


_CHECK = "check `portal.authority`, and any proxy in between"


def _signed_in(claims: Mapping[str, Any]) -> SignedIn:
    entra = _ENTRA.fullmatch(str(claims["iss"])) is not None
    subject = claims.get("oid") if entra else claims["sub"]
    if not isinstance(subject, str) or not subject:
        raise SignInRefused("no oid in the ID token")
    if len(subject) > LONGEST_SUBJECT or has_unsafe_chars(subject):
        raise SignInRefused("the subject is too long, or has an unprintable character")
    groups, sources = claims.get("groups"), claims.get("_claim_names")
    email = claims.get("email") if claims.get("email_verified") is True and not entra else ""
    at = claims.get("auth_time")
    return SignedIn(
        account=SignInAccount(str(claims["iss"]), subject),
        entra=entra,
        email=email if isinstance(email, str) else "",
        name=str(claims.get("name") or "")[:100],
        groups=frozenset(str(group) for group in groups[:MOST_GROUPS]) if isinstance(groups, list) else frozenset(),
        groups_left_out=isinstance(sources, dict) and "groups" in sources,
        authenticated_at=datetime.fromtimestamp(at, UTC) if isinstance(at, int) and 0 < at < 2**40 else None,
    )


def _content(response: requests.Response) -> bytes:
    """A document, or more than LARGEST bytes of it. Raises TimeoutError where each part arrives in time and the whole does not."""
    content, until = b"", time.monotonic() + PATIENCE
    while len(content) <= LARGEST and (part := response.raw.read1(LARGEST, decode_content=True)):
        content += part
        if time.monotonic() > until:
            raise TimeoutError
    return content


def _error_code(answer: Mapping[str, Any]) -> str:
    """The code of an OAuth error; its description is never used."""
    code = str(answer.get("error", ""))
    return code if _CODE.fullmatch(code) else "an unknown error"
