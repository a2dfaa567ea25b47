"""References to secrets: each place, and what is wrong when nothing is there."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from distributor.config.secrets import exposed, parse_reference
from distributor.errors import InvalidInput
from distributor.model.secret import Secret
from tests.authority import Authority


@pytest.mark.parametrize("text", ["hunter2", "", "env:", "http://example.org", "keyring:lonely", "cred:../etc/passwd", "env"])
def test_what_is_no_reference_is_refused_without_being_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"reference|plain name") as caught:
        parse_reference(text, tmp_path)
    assert not text or text not in str(caught.value)


def test_a_file_is_relative_to_the_configuration_and_loses_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("open sesame\r\n", encoding="utf-8")
    assert parse_reference("file:secret", tmp_path).resolve("x").reveal() == "open sesame"


def test_a_credential_of_systemd_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "smtp").write_text("open sesame", encoding="utf-8")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert parse_reference("cred:smtp", tmp_path).resolve("x").reveal() == "open sesame"
    monkeypatch.delenv("CREDENTIALS_DIRECTORY")
    with pytest.raises(InvalidInput, match="CREDENTIALS_DIRECTORY is not set"):
        parse_reference("cred:smtp", tmp_path).resolve("x")


def test_a_missing_file_is_named_with_its_key(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file") as caught:
        parse_reference("file:none", tmp_path).resolve("transport.password")
    assert caught.value.where == "transport.password"


def test_an_empty_secret_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    with pytest.raises(InvalidInput, match="is empty"):
        parse_reference("file:empty", tmp_path).resolve("x")


def test_a_file_that_is_no_text_is_refused_without_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00secret")
    with pytest.raises(InvalidInput, match="is not UTF-8 text"):
        parse_reference("file:binary", tmp_path).resolve("x")
    (tmp_path / "long").write_bytes(b"x" * 70_000)
    with pytest.raises(InvalidInput, match="too long for a secret"):
        parse_reference("file:long", tmp_path).resolve("x")


def test_a_pfx_comes_armoured(tmp_path: Path, authority: Authority) -> None:
    pfx = authority.issue("app@example.org").pfx("word")
    (tmp_path / "app.pfx").write_bytes(pfx)
    text = parse_reference("file:app.pfx", tmp_path).resolve("transport.certificate").reveal()
    begin, *body, end = text.splitlines()
    assert (begin, end) == ("-----BEGIN PKCS12-----", "-----END PKCS12-----")
    assert base64.b64decode("".join(body), validate=True) == pfx


@pytest.mark.parametrize("begin", [b"\x30\x82", b"\x30\x83", b"\x30\x80"])
def test_a_binary_sequence_of_any_length_comes_armoured_whole(tmp_path: Path, begin: bytes) -> None:
    (tmp_path / "binary").write_bytes(begin + b"\r\n\x00\r\n")
    _, *body, _ = parse_reference("file:binary", tmp_path).resolve("x").reveal().splitlines()
    assert base64.b64decode("".join(body)) == begin + b"\r\n\x00\r\n"


def test_a_secret_that_others_can_read_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("x", encoding="utf-8")
    path.chmod(0o640)
    assert "can be read by others (mode 0640)" in str(exposed(path))
    path.chmod(0o600)
    assert exposed(path) is None
    assert exposed(tmp_path / "none") is None


def test_a_file_is_replaced_for_its_owner_only_and_a_link_to_it_stays(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_text("old", encoding="utf-8")
    real.chmod(0o644)
    link.symlink_to(real)
    reference = parse_reference("file:link", tmp_path)
    reference.store(Secret("new"), "vault.identity")
    assert (real.read_text(encoding="utf-8"), real.stat().st_mode & 0o777, link.is_symlink()) == ("new", 0o600, True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


@pytest.mark.parametrize("text", ["env:NAME", "cred:name"])
def test_what_the_program_is_given_from_outside_cannot_be_written(tmp_path: Path, text: str) -> None:
    reference = parse_reference(text, tmp_path)
    assert not reference.writable
    with pytest.raises(InvalidInput, match="cannot be written"):
        reference.store(Secret("new"), "vault.identity")


def test_a_file_that_cannot_be_written_is_said_without_the_secret(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file") as caught:
        parse_reference("file:none", tmp_path).store(Secret("hunter2"), "vault.identity")
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
