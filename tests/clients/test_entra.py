"""Signing in to Entra: every flow, each refusal in our words, one question however many ask, and no secret anywhere but in the request."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization as ser

from distributor.clients.app_registration import AccessToken, AppRegistration, SignInUnavailable
from distributor.clients.entra import Entra, check, entra
from distributor.errors import ServiceUnavailable
from distributor.model.secret import Secret
from tests.authority import Identity
from tests.clients.entra_apps import armoured, assertion, by_certificate, cloud, leaf, questions, refused, registered, signed_in, workload
from tests.doubles.graphd import Cloud, verify

__all__ = ["cloud", "leaf"]  # fixtures

# --- the flows -------------------------------------------------------------------------------------------------------


def test_a_secret_gives_a_token_that_says_what_the_app_may_do(cloud: Cloud) -> None:
    token = signed_in(registered(cloud), cloud.graph)
    assert verify(token.secret.reveal(), cloud.graph, cloud.signing_key)["roles"] == ["Mail.Send"]
    assert (token.roles, token.scopes) == ({"Mail.Send"}, frozenset())
    assert token.expires_at is not None
    assert timedelta(minutes=59) < token.expires_at - datetime.now(UTC) < timedelta(minutes=61)


def test_a_service_is_named_by_its_root_with_or_without_a_stroke(cloud: Cloud) -> None:
    token = signed_in(registered(cloud), "https://outlook.office365.com/")
    assert verify(token.secret.reveal(), "https://outlook.office365.com", cloud.signing_key)["roles"] == ["SMTP.SendAsApp"]


FORMS: dict[str, Callable[[Identity], tuple[bytes | str, str | None]]] = {
    "certificate first": lambda leaf: (leaf.pem + leaf.key_pem(), None),
    "key first, with a chain": lambda leaf: (
        leaf.key_pem() + b"".join(each.public_bytes(ser.Encoding.PEM) for each in leaf.chain) + leaf.pem,
        None,
    ),
    "windows lines": lambda leaf: ((leaf.pem + leaf.key_pem()).replace(b"\n", b"\r\n"), None),
    "encrypted key": lambda leaf: (leaf.pem + leaf.key_pem("pass word"), "pass word"),
    "a password that nothing wants": lambda leaf: (leaf.pem + leaf.key_pem(), "pass word"),
    "pfx": lambda leaf: (armoured(leaf.pfx("pässword")), "pässword"),
    "pfx without a password": lambda leaf: (armoured(open_pfx(leaf)), None),
}


def open_pfx(leaf: Identity) -> bytes:
    return ser.pkcs12.serialize_key_and_certificates(b"app", leaf.key, leaf.certificate, None, ser.NoEncryption())


@pytest.mark.parametrize("form", FORMS)
def test_a_certificate_signs_in_whatever_its_form(cloud: Cloud, leaf: Identity, form: str) -> None:
    text, password = FORMS[form](leaf)
    sign_in = by_certificate(cloud, leaf, text, password)
    assert check(sign_in, "transport") is None
    assert signed_in(sign_in, cloud.graph).roles == {"Mail.Send"}


@pytest.mark.parametrize("place", ["machine_identity", "app_service_identity"])
@pytest.mark.parametrize("whose", ["user", "system"])
def test_a_machine_signs_in_with_its_identity_and_through_no_proxy(
    cloud: Cloud, place: str, whose: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    for name, value in getattr(cloud, place).items():
        monkeypatch.setenv(name, value)
    app = cloud.app(managed=whose, roles=["Mail.Send"])
    sign_in = AppRegistration(managed_identity=True, client_id=app if whose == "user" else "", login=f"https://{uuid.uuid4()}.example")
    assert check(sign_in, "transport") is None
    assert signed_in(sign_in, cloud.graph).roles == {"Mail.Send"}
    cloud.app(app, managed="")


def test_a_machines_token_is_renewed_when_it_was_refused(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in cloud.machine_identity.items():
        monkeypatch.setenv(name, value)
    client = entra(AppRegistration(managed_identity=True, client_id=cloud.app(managed="user", roles=["Mail.Send"])))
    first, second = asyncio.run(twice(client, cloud.graph))
    assert first.secret != second.secret


async def twice(client: Entra, resource: str) -> tuple[AccessToken, AccessToken]:
    return await client.token(resource), await client.token(resource, fresh=True)


def test_a_workloads_token_is_read_again_at_every_use(cloud: Cloud, tmp_path: Path) -> None:
    with cloud.during(replayed_assertions="refused"):
        sign_in = workload(cloud, tmp_path / "token", assertion() + "\n")
        client = entra(sign_in)
        assert asyncio.run(client.token(cloud.graph)).roles == {"Mail.Send"}
        (tmp_path / "token").write_text(assertion(), encoding="ascii")
        assert asyncio.run(client.token(cloud.graph, fresh=True)).roles == {"Mail.Send"}


@pytest.mark.parametrize(("text", "why"), [(None, "no such file or directory"), ("", "is empty"), ("\xff", "not a token")])
def test_a_workloads_token_that_is_not_there_is_named_before_anything_is_sent(
    cloud: Cloud, tmp_path: Path, text: str | None, why: str
) -> None:
    file = tmp_path / "token"
    sign_in = workload(cloud, file, "x")
    file.unlink() if text is None else file.write_bytes(text.encode("latin-1"))
    before = questions(cloud)
    error = refused(sign_in, cloud.graph, key="transport.oauth")
    assert (error.where, error.message.endswith(why)) == ("transport.oauth.assertion", True)
    assert questions(cloud) == before


# --- a person --------------------------------------------------------------------------------------------------------


def person(cloud: Cloud) -> tuple[AppRegistration, str]:
    app, name = cloud.app(delegated=["Mail.Send"]), f"{uuid.uuid4().hex[:8]}@example.org"
    cloud.mailbox(name)
    return AppRegistration(tenant=cloud.tenant, client_id=app, device_code=True, login=cloud.login), name


def code_in(text: str) -> str:
    return re.search(r"enter the code (\S+)$", text)[1]


def test_a_person_is_shown_a_code_once_and_signs_in(cloud: Cloud) -> None:
    sign_in, name = person(cloud)
    prompts: list[str] = []

    def tell(text: str) -> None:
        prompts.append(text)
        cloud.approve(code_in(text), name)

    first, second = asyncio.run(twice(entra(sign_in, tell=tell), cloud.graph))
    assert prompts == [f"to sign in, open {cloud.login}/device and enter the code {code_in(prompts[0])}"]
    assert (first.scopes, first.roles) == ({"Mail.Send"}, frozenset())
    assert first.secret != second.secret


def test_a_person_who_declines_is_heard(cloud: Cloud) -> None:
    sign_in, _ = person(cloud)
    error = refused(sign_in, cloud.graph, tell=lambda text: cloud.decline(code_in(text)))
    assert error.message.startswith("the sign-in was declined")


def test_without_anybody_to_show_the_code_to_nothing_is_waited_for(cloud: Cloud) -> None:
    sign_in, _ = person(cloud)
    before = len(cloud.requests("devicecode"))
    assert "not an interactive terminal" in refused(sign_in, cloud.graph).message
    assert len(cloud.requests("devicecode")) == before


def test_whoever_gives_up_waiting_for_a_person_waits_no_longer(cloud: Cloud) -> None:
    sign_in, _ = person(cloud)

    async def go() -> None:
        shown, loop = asyncio.Event(), asyncio.get_running_loop()
        client = entra(sign_in, tell=lambda _: loop.call_soon_threadsafe(shown.set))
        waiting = asyncio.ensure_future(client.token(cloud.graph))
        await shown.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    with cloud.during(device_interval=1):
        began = time.monotonic()
        asyncio.run(go())  # which ends when msal's thread does; a code is valid for 15 minutes
        assert time.monotonic() - began < 60


# --- once ------------------------------------------------------------------------------------------------------------


def test_eight_who_ask_at_once_are_one_question(cloud: Cloud) -> None:
    sign_in, before = registered(cloud), questions(cloud)

    async def go() -> set[str]:
        tokens = await asyncio.gather(*(entra(sign_in).token(cloud.graph) for _ in range(8)))
        return {token.secret.reveal() for token in tokens}

    assert len(asyncio.run(go())) == 1
    assert asyncio.run(go()) == asyncio.run(go())  # in other loops, later
    assert questions(cloud) == before + 1


def test_eight_who_were_refused_with_one_token_get_one_other(cloud: Cloud) -> None:
    sign_in = registered(cloud)

    async def go() -> tuple[AccessToken, list[AccessToken]]:
        client = entra(sign_in)
        old = await client.token(cloud.graph)
        return old, await asyncio.gather(*(client.renewed(cloud.graph, old) for _ in range(8)))

    before = questions(cloud)
    old, new = asyncio.run(go())
    assert len({token.secret.reveal() for token in new}) == 1
    assert new[0].secret != old.secret
    assert questions(cloud) == before + 2


def test_eight_who_want_a_fresh_token_at_once_get_the_same(cloud: Cloud) -> None:
    sign_in = registered(cloud)

    async def go() -> set[str]:
        client = entra(sign_in)
        old = await client.token(cloud.graph)
        tokens = await asyncio.gather(*(client.token(cloud.graph, fresh=True) for _ in range(8)))
        return {old.secret.reveal(), *(token.secret.reveal() for token in tokens)}

    assert len(asyncio.run(go())) == 2


def test_eight_who_cannot_sign_in_are_one_question_too(cloud: Cloud) -> None:
    sign_in, before = registered(cloud, secret=Secret("another")), questions(cloud)

    async def go() -> list[AccessToken | BaseException]:
        return await asyncio.gather(*(entra(sign_in).token(cloud.graph) for _ in range(8)), return_exceptions=True)

    errors = asyncio.run(go())
    assert {str(error) for error in errors} == {f"localhost:{cloud.port}: wrong secret (AADSTS7000215)"}
    assert len({id(error) for error in errors}) == 8
    assert questions(cloud) == before + 1


def test_a_token_near_its_end_is_renewed(cloud: Cloud) -> None:
    with cloud.during(token_seconds=299):
        first, second = asyncio.run(near(entra(registered(cloud)), cloud.graph))
    assert first.secret != second.secret


async def near(client: Entra, resource: str) -> tuple[AccessToken, AccessToken]:
    return await client.token(resource), await client.token(resource)


def test_while_nobody_answers_a_token_near_its_end_is_still_good(cloud: Cloud) -> None:
    client = entra(registered(cloud))
    with cloud.during(token_seconds=299):
        first = asyncio.run(client.token(cloud.graph))
    cloud.fault("token", "reset-before")
    assert asyncio.run(client.token(cloud.graph)).secret == first.secret


def test_a_refusal_is_not_answered_from_memory_once_its_reason_is_gone(cloud: Cloud) -> None:
    client = entra(registered(cloud))
    cloud.fault("token", "aadsts", number=65001, status=400)
    with pytest.raises(ServiceUnavailable, match="have no consent"):
        asyncio.run(client.token(cloud.graph))
    assert asyncio.run(client.token(cloud.graph)).roles == {"Mail.Send"}


def test_a_service_that_asks_to_come_later_is_left_alone_until_then(cloud: Cloud) -> None:
    client = entra(registered(cloud))
    cloud.fault("token", "status", status=429, retry_after=60)
    with pytest.raises(SignInUnavailable, match="asks to try again later"):
        asyncio.run(client.token(cloud.graph))
    before = questions(cloud)
    with pytest.raises(SignInUnavailable, match="asks to try again later"):
        asyncio.run(client.token(cloud.graph))
    assert questions(cloud) == before
