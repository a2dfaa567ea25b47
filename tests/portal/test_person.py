"""What people can do for themselves."""

from __future__ import annotations

from tests.portal.conftest import Kit, Served


def test_somebody_signs_in_and_sees_their_certificate_only(served: Served) -> None:
    page = served.visitor().sign_in("u-alice")
    assert page.status == 200
    assert "Certificate for alice@example.org" in page.text
    assert "bob@example.org" not in page.body
