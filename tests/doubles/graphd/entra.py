"""Entra's endpoints: discovery, tokens and the device code. Sign-in by secret, certificate, federation, device."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import parse_qsl

from tests.doubles.graphd.apps import GRAPH, OUTLOOKS, App
from tests.doubles.graphd.assertions import KIND, Assertions
from tests.doubles.graphd.devices import Devices, Grant
from tests.doubles.graphd.faults import through
from tests.doubles.graphd.refusals import Denied, Refusal, dated, entra_error
from tests.doubles.graphd.state import ServiceState
from tests.doubles.graphd.wire import Answer, Request, Send

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
ENDPOINTS = {
    ("GET", "v2.0/.well-known/openid-configuration"): "discovery",
    ("GET", "discovery/v2.0/keys"): "keys",
    ("POST", "oauth2/v2.0/token"): "token",
    ("POST", "oauth2/v2.0/devicecode"): "devicecode",
}
OURS = frozenset({"openid", "profile", "offline_access", "email"})  # scopes of sign-in itself


class Entra:
    def __init__(self, service: ServiceState) -> None:
        self.service = service
        self.assertions, self.devices = Assertions(), Devices(service)
        self.endpoints: dict[str, Callable[[str, dict[str, str]], Answer]] = {
            "discovery": self.discovery,
            "keys": lambda _tenant, _form: _plain(self.service.signer.key_set()),
            "token": self.token,
            "devicecode": self.device_code,
        }

    async def serve(self, request: Request, send: Send) -> None:
        tenant, _, rest = "/".join(request.segments).partition("/")
        endpoint = ENDPOINTS.get((request.method, rest), "")
        self.service.limits.requests[endpoint or "unknown"] += 1
        fault = self.service.faults.take(endpoint, lambda: _text(request), graph=False)
        answer = await through(fault, lambda: self.answer(endpoint, tenant, request), lambda wrong: self._said(wrong, request))
        self.service.requests.append(
            {
                "at": self.service.clock.now(),
                "method": request.method,
                "target": request.target,
                "operation": endpoint,
                "status": answer.status,
            }
            | {"fault": fault.do if fault else None}
        )
        await send(dated(answer, self.service.clock.now()))

    def answer(self, endpoint: str, tenant: str, request: Request) -> Answer:
        form = dict(parse_qsl(request.body.decode("utf-8", "replace"), keep_blank_values=True))
        if endpoint == "token":
            self.service.limits.token_requests[form.get("grant_type", "")] += 1
        try:
            if not endpoint:
                return Answer(404)
            _form_encoded(request)
            return self.endpoints[endpoint](self._tenant(endpoint, tenant), form)
        except Denied as denied:
            return self._said(denied, request)

    def _said(self, wrong: Exception, request: Request) -> Answer:
        """A fault that speaks Graph's language says the same in Entra's."""
        if isinstance(wrong, Refusal):
            text = f"A transient error has occurred. {wrong.message}"
            wrong = Denied(90033, "temporarily_unavailable", text, wrong.status, headers=wrong.headers)
        if not isinstance(wrong, Denied):
            raise wrong
        return entra_error(wrong, request, self.service.clock.now())

    def _tenant(self, endpoint: str, given: str) -> str:
        tenant = self.service.tenant(given)
        if tenant is None:
            error = "invalid_tenant" if endpoint == "discovery" else "invalid_request"
            text = f"Tenant '{given}' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud."
            raise Denied(90002, error, text)
        return tenant

    # --- endpoints ------------------------------------------------------------------------------------------------------

    def discovery(self, tenant: str, _form: dict[str, str]) -> Answer:
        root = f"{self.service.login}/{tenant}"
        return _plain(
            {
                "issuer": f"{root}/v2.0",
                "authorization_endpoint": f"{root}/oauth2/v2.0/authorize",
                "token_endpoint": f"{root}/oauth2/v2.0/token",
                "device_authorization_endpoint": f"{root}/oauth2/v2.0/devicecode",
                "jwks_uri": f"{root}/discovery/v2.0/keys",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
                "response_types_supported": ["code", "id_token"],
                "subject_types_supported": ["pairwise"],
                "id_token_signing_alg_values_supported": ["RS256"],
            }
        )

    def token(self, tenant: str, form: dict[str, str]) -> Answer:
        app = self._app(tenant, form)
        match form.get("grant_type"):
            case "client_credentials":
                return self._for_itself(tenant, app, form)
            case grant if grant == DEVICE:
                return self._for_a_user(app, self.devices.poll(app, form.get("device_code", "")))
            case "refresh_token":
                return self._for_a_user(app, self.devices.refreshed(app, form.get("refresh_token", "")))
        raise Denied(70003, "unsupported_grant_type", "The app requested an unsupported grant type.")

    def device_code(self, tenant: str, form: dict[str, str]) -> Answer:
        app = self._app(tenant, form)
        resource, scopes = self._delegated(app, form.get("scope", ""))
        return _plain(self.devices.begin(app, resource, scopes))

    # --- who asks, and for what -------------------------------------------------------------------------------------

    def _app(self, tenant: str, form: dict[str, str]) -> App:
        given = form.get("client_id", "")
        app = self.service.apps.get(given)
        if app is None or app.tenant != tenant:
            text = (
                f"Application with identifier '{given}' was not found in the directory '{tenant}'. This can happen if the application "
                "has not been installed by the administrator of the tenant or consented to by any user in the tenant."
            )
            raise Denied(700016, "unauthorized_client", text)
        if not app.enabled:
            raise Denied(7000112, "unauthorized_client", f"Application '{app.id}'({app.name}) is disabled.")
        return app

    def _for_itself(self, tenant: str, app: App, form: dict[str, str]) -> Answer:
        self._proved(tenant, app, form)
        resource = self._resource(form.get("scope", ""))
        self._consent(app)
        claims = {"idtyp": "app", "oid": f"sp-{app.id}", "sub": f"sp-{app.id}"}
        if roles := app.roles_at(resource):
            claims["roles"] = roles
        seconds = self.service.settings.token_seconds
        token = self.service.token(app, resource, **claims)
        return _plain({"token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token})

    def _proved(self, tenant: str, app: App, form: dict[str, str]) -> None:
        if "client_assertion" in form:
            if form.get("client_assertion_type") != KIND:
                raise Denied(50027, "invalid_request", "Invalid client_assertion_type.")
            settings = self.service.settings
            now = self.service.clock.now() - (self.service.clock.ahead if settings.sign_in_clock == "real" else 0)
            names = {tenant, *self.service.tenants[tenant]}
            audiences = {f"{self.service.login}/{name}/{end}" for name in names for end in ("oauth2/v2.0/token", "v2.0")}
            once = settings.replayed_assertions == "refused"
            self.assertions.check(app, form["client_assertion"], audiences, now=now, once=once)
        elif "client_secret" in form:
            self._secret(app, form["client_secret"])
        else:
            text = "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
            raise Denied(7000218, "invalid_client", text, 401)

    def _secret(self, app: App, given: str) -> None:
        if given not in app.secrets:
            text = (
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, "
                f"not the client secret ID, for a secret added to app '{app.id}'."
            )
            raise Denied(7000215, "invalid_client", text, 401)
        expires = app.secrets[given]
        if expires is not None and expires <= self.service.clock.now():
            text = f"The provided client secret keys for app '{app.id}' are expired. Create new keys for your app."
            raise Denied(7000222, "invalid_client", text, 401)

    def _resource(self, scope: str) -> str:
        """What `<resource>/.default` names; Entra knows Graph by two roots here, and Exchange Online."""
        if not scope.endswith("/.default") or " " in scope:
            text = f"The provided value for scope {scope} is not valid. Client credential flows need a scope that ends in /.default."
            raise Denied(1002012, "invalid_scope", text)
        resource = scope.removesuffix("/.default")
        return self.known(resource)

    def known(self, resource: str) -> str:
        if resource.rstrip("/") not in {self.service.graph, GRAPH, *OUTLOOKS}:
            text = f"The resource principal named {resource} was not found in the tenant named Example."
            raise Denied(500011, "invalid_resource", text)
        return resource.rstrip("/")

    def _consent(self, app: App, scopes: list[str] | None = None) -> None:
        if not app.consented or set(scopes or ()) - set(app.delegated):
            text = (
                f"The user or administrator has not consented to use the application with ID '{app.id}' named '{app.name}'. "
                "Send an interactive authorization request for this user and resource."
            )
            raise Denied(65001, "invalid_grant", text)

    def _delegated(self, app: App, scope: str) -> tuple[str, list[str]]:
        """The resource and the names of what is asked for it; a bare name is Graph's."""
        asked = [one for one in scope.split() if one not in OURS]
        resources = {one.rpartition("/")[0] or self.service.graph for one in asked}
        if len(resources) != 1:
            raise Denied(
                28000, "invalid_request", "Provided value for the input parameter scope is not valid because it names several resources."
            )
        names = [one.rpartition("/")[2] for one in asked]
        scopes = app.delegated if names == [".default"] else names
        self._consent(app, scopes)
        return self.known(resources.pop()), list(scopes)

    def _for_a_user(self, app: App, grant: Grant) -> Answer:
        user = self.service.directory.user(grant.user)
        if user is None:
            raise Denied(50034, "invalid_grant", f"The user account {grant.user} does not exist in the {app.tenant} directory.")
        upn, seconds = user["userPrincipalName"], self.service.settings.token_seconds
        claims = {"scp": " ".join(grant.scopes), "oid": user["id"], "sub": user["id"], "upn": upn, "unique_name": upn, "idtyp": "user"}
        prefix = f"{grant.resource}/"
        return _plain(
            {
                "token_type": "Bearer",
                "scope": " ".join(f"{prefix}{scope}" for scope in grant.scopes),
                "expires_in": seconds,
                "ext_expires_in": seconds,
                "access_token": self.service.token(app, grant.resource, **claims),
                "refresh_token": self.devices.refresh_token(grant),
                "id_token": self._id_token(app, user),
            }
        )

    def _id_token(self, app: App, user: dict[str, object]) -> str:
        now = int(self.service.clock.now() - self.service.clock.ahead)  # the client judges this one, by its own clock
        about = {"oid": user["id"], "sub": user["id"], "preferred_username": user["userPrincipalName"], "name": user["displayName"]}
        issuer = f"{self.service.login}/{app.tenant}/v2.0"
        return self.service.signer.sign(
            {"aud": app.id, "iss": issuer, "tid": app.tenant, "iat": now, "exp": now + 3600, "ver": "2.0", **about}
        )


def _plain(value: object) -> Answer:
    return Answer(
        200, json.dumps(value).encode(), {"Content-Type": "application/json; charset=utf-8", "Cache-Control": "no-store, no-cache"}
    )


def _text(request: Request) -> str:
    return f"{request.method} {request.target}\n{request.body.decode('utf-8', 'replace')}"


def _form_encoded(request: Request) -> None:
    if request.method == "POST" and request.media_type() != "application/x-www-form-urlencoded":
        raise Denied(900144, "invalid_request", "The request body must be application/x-www-form-urlencoded.")
