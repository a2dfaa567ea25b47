"""Certificates published in a folder."""

from __future__ import annotations

import base64
import os
import stat
import subprocess
from pathlib import Path

from distributor.adapters.directories import folder
from distributor.model.certificates import PublicationResult
from distributor.model.issues import CheckId, Issue
from tests.authority import Authority
from tests.contracts.directory_servers import ALICE, BOB, NOW, _trusted, case, public, server
from tests.needs import require

__all__ = ["_trusted", "case", "server"]  # fixtures


def test_a_folder_has_pem_der_and_a_vcard_that_everybody_may_read(tmp_path: Path, authority: Authority) -> None:
    identity, place = authority.issue(str(ALICE)), tmp_path / "a" / "b"
    before = os.umask(0o077)
    try:
        folder.open(folder.Settings(place), "directories[0]").publish(public(ALICE, identity.der, name="Alice; Doe, Ä"), NOW)
    finally:
        os.umask(before)
    assert sorted(path.name for path in place.iterdir()) == [f"{ALICE}.cer", f"{ALICE}.pem", f"{ALICE}.vcf"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in place.iterdir()} == {0o644}
    assert stat.S_IMODE(place.stat().st_mode) == 0o755
    assert (place / f"{ALICE}.pem").read_bytes() == identity.pem
    openssl = [require("openssl"), "x509", "-inform", "DER", "-in", str(place / f"{ALICE}.cer"), "-noout", "-subject"]
    assert b"alice@example.org" in subprocess.run(openssl, check=True, capture_output=True).stdout
    lines = (place / f"{ALICE}.vcf").read_bytes().split(b"\r\n")
    assert max(map(len, lines)) <= 75
    whole = b"\r\n".join(lines).replace(b"\r\n ", b"").decode().split("\r\n")
    key = f"KEY:data:application/pkix-cert;base64,{base64.b64encode(identity.der).decode()}"
    assert whole == ["BEGIN:VCARD", "VERSION:4.0", "FN:Alice\\; Doe\\, Ä", f"EMAIL:{ALICE}", key, "END:VCARD", ""]


def test_a_vcards_lines_are_folded_between_characters() -> None:
    lines = folder.vcard("ä€𝄞" * 40, "a@example.org", b"x").split(b"\r\n")
    assert [line.decode() for line in lines if len(line) > 75] == []
    assert len(lines) > 6


HOSTILE = ["../../etc/passwd", "..", "-rf", "a/b", "a\\b", "nul\0", "ü", "A", "a*b", "x" * 300]


def test_no_address_becomes_a_path_an_option_or_somebody_elses_name() -> None:
    names = [folder.file_name(f"{local}@example.org") for local in HOSTILE]
    assert len(set(names)) == len(names)
    for name in names:
        assert "/" not in name
        assert "\\" not in name
        assert name[0] not in ".-"
        assert name.isascii()
        assert len(name) < 240
    assert folder.file_name("alice+x@example.org") == "alice+x@example.org"


def test_a_link_in_the_folder_is_replaced_and_not_followed(tmp_path: Path, authority: Authority) -> None:
    target, leaf = tmp_path / "target", authority.issue(str(ALICE)).der
    target.write_text("precious", encoding="utf-8")
    place = tmp_path / "public"
    place.mkdir()
    (place / f"{ALICE}.cer").symlink_to(target)
    (place / f".{ALICE}.pem.part").symlink_to(target)
    folder.open(folder.Settings(place), "directories[0]").publish(public(ALICE, leaf), NOW)
    assert target.read_text(encoding="utf-8") == "precious"
    assert (place / f"{ALICE}.cer").read_bytes() == leaf
    assert not (place / f"{ALICE}.cer").is_symlink()


def test_a_link_to_the_very_same_is_no_file_of_ours(tmp_path: Path, authority: Authority) -> None:
    place, leaf = tmp_path / "public", authority.issue(str(ALICE)).der
    case = folder.open(folder.Settings(place), "directories[0]")
    case.publish(public(ALICE, leaf), NOW)
    (place / f"{ALICE}.cer").rename(tmp_path / "elsewhere")
    (place / f"{ALICE}.cer").symlink_to(tmp_path / "elsewhere")
    assert case.publish(public(ALICE, leaf), NOW) == PublicationResult(str(ALICE))
    assert not (place / f"{ALICE}.cer").is_symlink()


def test_a_folder_where_a_file_should_be_is_one_persons_misfortune(tmp_path: Path, authority: Authority) -> None:
    (tmp_path / f"{ALICE}.cer").mkdir()
    case = folder.open(folder.Settings(tmp_path), "directories[0]")
    done = case.publish(public(ALICE, authority.issue(str(ALICE)).der), NOW)
    assert isinstance(done, Issue)
    assert (done.check, done.address) == (CheckId.NOT_PUBLISHED, str(ALICE))
    assert isinstance(case.publish(public(BOB, authority.issue(str(BOB)).der), NOW), PublicationResult)
    assert not list(tmp_path.glob(".*"))
