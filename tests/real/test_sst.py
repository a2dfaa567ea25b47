"""Wine's crypt32 as a foreign reader of our collections, used where it is and required nowhere, since it takes 1.3 GB.

apt-get install --no-install-recommends wine wine64 gcc-mingw-w64-x86-64
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from distributor.pki import sst
from distributor.pki.asn1 import Unreadable
from tests.pki.pki import make

COMPILER = "x86_64-w64-mingw32-gcc"
SOURCE = Path(__file__).with_name("sst_oracle.c")
SERIALIZED_STORE = 4  # CERT_QUERY_CONTENT_SERIALIZED_STORE
NO_MATCH = "80092009"  # CRYPT_E_NO_MATCH

Oracle = Callable[..., list[str]]


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Oracle]:
    """What crypt32 prints about a file."""
    for program in ("wine", COMPILER):
        if shutil.which(program) is None:
            pytest.skip(f"this machine lacks {program}")
    folder = tmp_path_factory.mktemp("wine")
    program = folder / "sst_oracle.exe"
    subprocess.run([COMPILER, "-O1", "-o", program, SOURCE, "-lcrypt32"], check=True, capture_output=True)
    kept = {name: value for name, value in os.environ.items() if name != "DISPLAY"}
    quiet = {"WINEPREFIX": str(folder / "prefix"), "WINEARCH": "win64", "WINEDEBUG": "-all", "WINEDLLOVERRIDES": "mscoree,mshtml="}

    def run(*files: Path) -> list[str]:
        output = subprocess.run(
            ["wine", program, *files], env={**kept, **quiet}, capture_output=True, check=False, timeout=300, stdin=subprocess.DEVNULL
        )
        assert output.returncode == 0, output.stderr
        return output.stdout.decode("ascii").splitlines()

    yield run
    shutil.rmtree(folder, ignore_errors=True)  # 700 MB; its server ends by itself when its folder is gone


@pytest.fixture(scope="module")
def ders() -> list[bytes]:
    root = make("Root")
    return [root.der, *(make(f"Mail CA {number}", root).der for number in range(20))]


def sha1(der: bytes) -> str:
    return hashlib.sha1(der, usedforsecurity=False).hexdigest()


def test_crypt32_finds_every_certificate_and_writes_the_same_bytes(oracle: Oracle, ders: list[bytes], tmp_path: Path) -> None:
    ours, theirs = tmp_path / "ours.sst", tmp_path / "theirs.sst"
    ours.write_bytes(sst.write(ders))
    output = oracle(ours, theirs)
    assert f"query kind {SERIALIZED_STORE}" in output
    for way in ("serialized", "query"):
        found = [line.rpartition(" ")[2] for line in output if line.startswith(f"{way} certificate ")]
        assert found == [sha1(der) for der in reversed(ders)]  # it tells the newest first
    assert theirs.read_bytes() == sst.write(ders[::-1])
    assert sst.read(theirs.read_bytes()).certificates == tuple(ders[::-1])


def test_crypt32_and_we_refuse_another_beginning(oracle: Oracle, ders: list[bytes], tmp_path: Path) -> None:
    wrong = bytearray(sst.write(ders))
    wrong[7] ^= 1
    (tmp_path / "wrong.sst").write_bytes(wrong)
    output = oracle(tmp_path / "wrong.sst")
    assert output[0].startswith("serialized refused")
    assert output[1:] == ["query kind 0", f"query refused {NO_MATCH}"]
    with pytest.raises(Unreadable):
        sst.read(bytes(wrong))
