"""mailmerge (its latest release, in an environment of its own) doing the same job with a straightforward packaging script."""

from __future__ import annotations

import csv
import functools
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import PrivateFormat, pkcs12

from tests.bench.ground import Pace

PEOPLE = 500  # enough that mailmerge's start does not count
TEMPLATE = """TO: {{email}}
FROM: certificates@example.org
SUBJECT: Your S/MIME certificate
ATTACHMENT: {{pfx}}

Dear {{name}}, open the attached certificate in Outlook on your phone.
"""


@functools.cache
def _mailmerge() -> Path:
    home = Path(tempfile.gettempdir()) / "bench-mailmerge"
    program = home / "bin" / "mailmerge"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(home / "bin" / "pip"), "install", "--quiet", "--upgrade", "mailmerge"], check=True, stderr=subprocess.DEVNULL)
    return program


def whole(folder: Path, roster: Path, port: int) -> Pace:
    """Packaging and sending."""
    before, began = os.times(), time.perf_counter()
    _package(folder, roster)
    packaged = time.perf_counter() - began
    rate = PEOPLE / (packaged + _send(folder, port))
    return Pace(rate, (sum(os.times()[:4]) - sum(before[:4])) / PEOPLE)


def sending(folder: Path, roster: Path, port: int) -> float:
    """People a second with packages that are there already."""
    _package(folder, roster)
    return PEOPLE / _send(folder, port)


def _package(folder: Path, roster: Path) -> None:
    out = folder / "rival"
    out.mkdir(exist_ok=True)
    with roster.open(encoding="utf-8") as rows, (out / "database.csv").open("w", encoding="utf-8") as database:
        database.write("email,name,pfx\n")
        for row, _ in zip(csv.DictReader(rows), range(PEOPLE), strict=False):
            found = pkcs12.load_pkcs12((roster.parent / row["file"]).read_bytes(), row["password"].encode())
            how = (
                PrivateFormat.PKCS12.encryption_builder()
                .kdf_rounds(2048)
                .key_cert_algorithm(pkcs12.PBES.PBESv1SHA1And3KeyTripleDESCBC)
                .hmac_hash(hashes.SHA1())  # noqa: S303
                .build(b"abcde-fghjk-mnpqr-stuvw-xyzab")
            )
            chain = [extra.certificate for extra in found.additional_certs]
            name = out / f"{row['email']}.pfx"
            name.write_bytes(pkcs12.serialize_key_and_certificates(b"mail", found.key, found.cert.certificate, chain, how))
            database.write(f"{row['email']},{row['name']},{name}\n")


def _send(folder: Path, port: int) -> float:
    out = folder / "rival"
    (out / "message.txt").write_text(TEMPLATE, encoding="utf-8")
    (out / "server.conf").write_text(f"[smtp_server]\nhost = 127.0.0.1\nport = {port}\n", encoding="utf-8")
    command = [
        str(_mailmerge()),
        "--no-dry-run",
        "--no-limit",
        "--template",
        "message.txt",
        "--database",
        "database.csv",
        "--config",
        "server.conf",
    ]
    began = time.perf_counter()
    subprocess.run(command, cwd=out, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
