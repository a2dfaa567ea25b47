"""Files as other programs write them, from `plan` to the message: BER, many rounds, PEM around a PFX, passwords spelled in other ways."""

from __future__ import annotations

import email
import email.policy
import json
import unicodedata
from base64 import b64encode, encodebytes
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from random import Random

import pytest
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

from distributor.pki.pbe import EncodedPassword
from tests.authority import Authority, own_key
from tests.pfx_writer import in_ber, pfx
from tests.workspace import Workspace

pytestmark = pytest.mark.slow(reason="whole commands, one for each password; what they rest on is tested in tests/pki")

GIVEN = "Zürich-2026"


@pytest.fixture
def workspace(tmp_path: Path, authority: Authority) -> Iterator[Workspace]:
    made = Workspace(tmp_path, authority)
    made.run_script("$ distributor init >/dev/null 2>&1\n+ server\n$ mkdir certificates\n")
    yield made
    made.close()


def test_they_are_planned_and_sent(workspace: Workspace, authority: Authority) -> None:
    random, word = Random(11), EncodedPassword.of(GIVEN)  # noqa: S311  the same each time
    people = {
        name: authority.issue(f"{name}@example.org", key=own_key(number))
        for number, name in enumerate(("ber", "nss", "nfd", "pem", "text"))
    }
    files = {
        "ber": pfx(people["ber"], word, encode=lambda der: in_ber(der, random)),
        "nss": pfx(people["nss"], word, rounds=600_000),
        "nfd": pfx(people["nfd"], EncodedPassword.of(unicodedata.normalize("NFD", GIVEN))),
        "pem": b"-----BEGIN PKCS12-----\n" + encodebytes(pfx(people["pem"], word)) + b"-----END PKCS12-----\n",
        "text": b64encode(pfx(people["text"], word)),
    }
    for name, data in files.items():
        (workspace.folder / "certificates" / f"{name}.p12").write_bytes(data)
        (workspace.folder / "certificates" / f"{name}.txt").write_text(GIVEN, encoding="utf-8")
    planned = workspace.run("distributor plan certificates --json 2>/dev/null")
    answer = json.loads(planned.stdout)
    assert (planned.returncode, answer["issues"]) == (0, [])
    assert sorted(delivery["address"] for delivery in answer["deliveries"]) == [f"{name}@example.org" for name in sorted(people)]
    assert workspace.run("distributor send --yes").returncode == 0
    for data in workspace.handler.messages:
        message = email.message_from_bytes(data, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        (part,) = message.iter_attachments()
        address = message["to"].addresses[0].addr_spec
        password = workspace.run(f"distributor password reveal {address} --reason test --stdout 2>/dev/null").stdout.strip()
        package = load_pkcs12(part.get_content(), password.encode())
        assert package.cert is not None
        assert package.cert.certificate == people.pop(address.partition("@")[0]).certificate
    assert people == {}
