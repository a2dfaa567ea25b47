"""What `doctor` says about the portal."""

from __future__ import annotations

import pytest

from distributor import bootstrap
from distributor.cli.doctor import _portal
from distributor.errors import ServiceUnavailable
from tests.portal.conftest import Kit


def test_a_portal_whose_provider_answers_is_fine(kit: Kit) -> None:
    served = kit.served()
    found = list(_portal(bootstrap.settings(served.folder / "distributor.toml")))
    assert [each.level for each in found] == ["ok"]
    assert "; sign-in at http://127.0.0.1:" in found[0].message


def test_nobody_who_may_approve_is_a_warning_and_a_missing_key_is_said(kit: Kit) -> None:
    served = kit.served()
    config = served.folder / "distributor.toml"
    lines = config.read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines if not line.startswith(("administrators", "identity"))]
    config.write_text("\n".join(kept), encoding="utf-8")
    found = list(_portal(bootstrap.settings(config)))
    assert [each.level for each in found] == ["ok", "warning", "ok"]
    assert "portal.administrators: nobody may approve" in found[1].message
    assert "no `vault.identity`" in found[2].message


def test_a_provider_that_does_not_answer_is_an_error(kit: Kit) -> None:
    served = kit.served()
    config = served.folder / "distributor.toml"
    text = config.read_text(encoding="utf-8")
    start = text.index('\nauthority = "') + 1
    config.write_text(text[:start] + 'authority = "http://127.0.0.1:9/oidc"' + text[text.index("\n", start) :], encoding="utf-8")
    with pytest.raises(ServiceUnavailable):
        list(_portal(bootstrap.settings(config)))
