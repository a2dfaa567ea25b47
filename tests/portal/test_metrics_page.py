"""/metrics of the portal: for who has the token, and nothing but numbers in it."""

from __future__ import annotations

import http.client
from contextlib import closing
from urllib.parse import urlsplit

import pytest

from tests.portal.conftest import Kit, Served

TOKEN = "a-token-of-the-monitoring"


@pytest.fixture
def measured(kit: Kit) -> Served:
    (kit.prepared[0] / "metrics.token").write_text(TOKEN)
    (kit.prepared[0] / "metrics.token").chmod(0o600)
    return kit.served(more='[metrics]\ntoken = "file:metrics.token"')


def get(served: Served, *, authorization: str = "", method: str = "GET") -> tuple[int, str, str]:
    place = urlsplit(served.url)
    with closing(http.client.HTTPConnection(place.hostname or "", place.port or 80)) as connection:
        connection.request(method, "/metrics", headers={"Authorization": authorization} if authorization else {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.getheader("content-type") or ""


def test_who_has_the_token_gets_figures(measured: Served) -> None:
    status, text, kind = get(measured, authorization=f"Bearer {TOKEN}")
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert 'distributor_deliveries{state="accepted",way="mail"} 2\n' in text
    assert "alice" not in text


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer wrong", f"Basic {TOKEN}", f"bearer {TOKEN} ", "Bearer \xff"])
def test_nobody_else_does(measured: Served, authorization: str) -> None:
    status, text, _ = get(measured, authorization=authorization)
    assert (status, text) == (401, "unauthorized")


def test_without_a_token_in_the_configuration_there_is_no_such_page(kit: Kit) -> None:
    status, text, _ = get(kit.served(), authorization="Bearer ")
    assert (status, "distributor_" in text) == (404, False)
