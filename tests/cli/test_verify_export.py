"""The verifier that comes with an export: it needs nothing but Python, takes what is good, and finds every change."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from distributor.cli.verify_export import is_signed
from distributor.model.audit_log import ORIGIN, AuditRecord, Link, canonical, digest, format_timestamp
from distributor.model.checkpoints import Tree, VerifierKey, checkpoint_text, root, signed_note
from distributor.workflows.audit import export
from tests.workflows.test_audit import EDITS, Chain
from tests.workspace import Workspace

PROGRAM = Path(__file__).parents[2] / "distributor" / "cli" / "verify_export.py"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
VERIFIER = VerifierKey("distributor/abc", KEY.public_key().public_bytes_raw())


def exported(records: list[AuditRecord]) -> list[str]:
    written: list[str] = []
    export(iter(records), "jsonl", written.append)
    return written


def lines() -> list[str]:
    return exported(Chain().sent_message(response='250 "ok" \u00e9\u2028 \U0001f600'))


def checkpoint(records: list[AuditRecord], size: int) -> str:
    tree = Tree()
    for record in records[:size]:
        tree.add(record.hash)
    text = checkpoint_text("distributor/abc", size, root(tree.edge))
    return signed_note(text, VERIFIER, KEY.sign(text.encode()))


def run(folder: Path, content: list[str], *notes: str, key: VerifierKey = VERIFIER) -> tuple[int, list[str]]:
    """Exit code and lines of the program, in a Python that has no packages."""
    (folder / "e.jsonl").write_bytes("".join(content).encode(errors="surrogatepass"))
    words = ["e.jsonl", *(["--key", str(key)] if notes else [])]
    for number, note in enumerate(notes):
        (folder / f"{number}.txt").write_text(note, encoding="utf-8")
        words += ["--checkpoint", f"{number}.txt"]
    done = subprocess.run([sys.executable, "-I", "-S", str(PROGRAM), *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_it_is_short_and_older_pythons_can_read_it() -> None:
    text = PROGRAM.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 150
    imported = {
        name.name for node in ast.walk(ast.parse(text, feature_version=(3, 8))) if isinstance(node, ast.Import) for name in node.names
    }
    assert imported <= sys.stdlib_module_names


def test_an_export_that_nobody_touched_is_good(tmp_path: Path) -> None:
    records = Chain().sent_message()
    code, said = run(tmp_path, exported(records), checkpoint(records, 3), checkpoint(records, 6))
    last = f"events: 6, hash of the last: {records[-1].hash}"
    signed = [f"{number}.txt: events 1 to {size} are those that were signed" for number, size in enumerate((3, 6))]
    assert (code, said) == (0, [last, *signed, "verified"])
    code, said = run(tmp_path, ["\ufeff", *exported(records)])
    assert (code, said[0], said[-1]) == (0, last, "verified")
    assert said[1].startswith("no checkpoint given: ")


def test_what_cannot_be_read_is_said_in_words(tmp_path: Path) -> None:
    words = [sys.executable, "-I", "-S", str(PROGRAM), "none.jsonl", "--checkpoint", "none.txt", "--checkpoint", "."]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines()[0] == "none.txt: No such file or directory"
    assert done.stdout.splitlines()[-1] == "NOT VERIFIED"


def test_a_line_that_is_no_event_is_named(tmp_path: Path) -> None:
    good = lines()
    for bad in ("[" * 100_000, '{"seq": 2}', good[1].replace('"evidence": {', '"evidence": {"x":' + "[" * 20_000 + "]" * 20_000 + ",", 1)):
        code, said = run(tmp_path, [good[0], bad.rstrip("\n") + "\n", *good[2:]])
        assert (code, said) == (1, ["line 2: is not an event as an export in JSON Lines has it", "NOT VERIFIED"])


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS.keys())
def test_every_change_of_a_file_is_found(tmp_path: Path, edit: Callable[[list[str]], object]) -> None:
    content = lines()
    edit(content)
    code, said = run(tmp_path, content)
    assert (code, said[-1]) == (1, "NOT VERIFIED")


def anew(records: list[AuditRecord]) -> list[AuditRecord]:
    """The same events, numbered and hashed so that the chain is a good one."""
    made, prev = [], ORIGIN
    for seq, record in enumerate(records, 1):
        event = replace(record.event, seq=seq)
        public = {name: value for name, value in event.evidence.items() if name not in (record.personal or ())}
        steps = event.before and str(event.before), event.after and str(event.after)
        columns = (event.delivery, event.event, *steps, event.by, canonical(public))
        hash_ = digest(Link(seq, format_timestamp(event.at), *columns, None, None, record.commitment, ""), prev)
        made.append(replace(record, event=event, prev=prev, hash=hash_))
        prev = hash_
    return made


REWRITTEN: dict[str, Callable[[list[AuditRecord]], list[AuditRecord]]] = {
    "an edit": lambda all_: [*all_[:2], replace(all_[2], event=replace(all_[2].event, by="eve@host")), *all_[3:]],
    "a removal": lambda all_: [*all_[:2], *all_[3:], all_[-1]],
    "the end": lambda all_: all_[:-1],
    "a swap": lambda all_: [all_[0], all_[2], all_[1], *all_[3:]],
    "an insertion": lambda all_: [*all_[:2], all_[1], *all_[2:]],
}


@pytest.mark.parametrize("change", REWRITTEN.values(), ids=REWRITTEN.keys())
def test_a_chain_that_was_hashed_anew_is_found_by_a_checkpoint_only(
    tmp_path: Path, change: Callable[[list[AuditRecord]], list[AuditRecord]]
) -> None:
    records = Chain().sent_message()
    forged = exported(anew(change(records)))
    assert run(tmp_path, forged)[0] == 0
    code, said = run(tmp_path, forged, checkpoint(records, 6))
    assert (code, said[-1]) == (1, "NOT VERIFIED")
    assert said[0] in {"0.txt: events 1 to 6 were changed since", "0.txt: is of 6 events; the end was removed"}


def test_a_checkpoint_counts_with_its_key_and_its_text_only(tmp_path: Path) -> None:
    records = Chain().sent_message()
    good = checkpoint(records, 6)
    other = VerifierKey("distributor/abc", Ed25519PrivateKey.generate().public_key().public_bytes_raw())
    for note, key in ((good, other), (good.replace("\n6\n", "\n5\n"), VERIFIER), ("", VERIFIER), (good.replace("abc", "xyz"), VERIFIER)):
        code, said = run(tmp_path, exported(records), note, key=key)
        assert (code, said[0].partition(": ")[2][:20]) == (1, "not a checkpoint tha")


def test_a_person_who_was_erased_leaves_an_export_that_is_good_if_an_event_says_so(tmp_path: Path) -> None:
    chain = Chain()
    records = chain.sent_message()
    public = {"plan": "p", "generation": 1}
    records[0] = replace(records[0], event=replace(records[0].event, evidence=public), personal=None, salt=None)
    assert run(tmp_path, exported(records)) == (1, [*run(tmp_path, exported(records))[1]])
    assert run(tmp_path, exported(records))[1][0] == "event 1: lost its personal data, and no event says why"
    chain.add("erased", (None, None), {"events": [1]}, {}, "root@host")
    assert run(tmp_path, exported(records))[0] == 0


@pytest.mark.parametrize("text", ["", "\n", "nonsense", "[]", "{}", '{"seq": 1, "seq": 1}', "[" * 100_000, "\ud800", "seq,at\r\n1,2"])
def test_what_is_no_export_is_refused_in_words(tmp_path: Path, text: str) -> None:
    code, said = run(tmp_path, [text])
    assert (code, said[-1]) == (1, "NOT VERIFIED")


@settings(deadline=None)
@given(message=st.binary(max_size=100), secret=st.binary(min_size=32, max_size=32), place=st.integers(0, 511))
def test_its_signatures_are_those_of_ed25519(message: bytes, secret: bytes, place: int) -> None:
    key = Ed25519PrivateKey.from_private_bytes(secret)
    public, signature = key.public_key().public_bytes_raw(), bytearray(key.sign(message))
    assert is_signed(public, bytes(signature), message)
    assert not is_signed(public, bytes(signature), message + b".")
    signature[place // 8] ^= 1 << place % 8
    with suppress(ValueError):  # not a point of the curve
        assert not is_signed(public, bytes(signature), message)


def test_a_signature_with_a_number_that_is_too_large_is_none() -> None:
    """RFC 8032 5.1.7: otherwise there would be a second signature for each."""
    signature = KEY.sign(b"x")
    order = 2**252 + 27742317777372353535851937790883648493
    second = signature[:32] + (int.from_bytes(signature[32:], "little") + order).to_bytes(32, "little")
    assert is_signed(VERIFIER.public, signature, b"x")
    assert not is_signed(VERIFIER.public, second, b"x")


def test_it_comes_with_each_export_and_verifies_what_the_program_wrote(sent: Workspace) -> None:
    done = sent.run("distributor audit checkpoint --output c.txt && distributor audit export --output evidence.jsonl")
    assert done.returncode == 0
    assert "without distributor: python3 evidence.verify.py evidence.jsonl" in done.stdout
    assert (sent.folder / "evidence.verify.py").read_bytes() == PROGRAM.read_bytes()
    public = sent.run("distributor audit key").stdout.strip()
    program = f"{sys.executable} -I -S evidence.verify.py"
    done = sent.run(f"{program} evidence.jsonl --checkpoint c.txt --key {public}")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "verified")
    path = sent.folder / "evidence.jsonl"
    path.write_text(re.sub("alice@", "eve@", path.read_text(encoding="utf-8"), count=1), encoding="utf-8")
    done = sent.run(f"{program} evidence.jsonl --checkpoint c.txt --key {public}")
    assert done.returncode == 1


def test_an_export_is_the_last_event_that_it_has(sent: Workspace) -> None:
    assert sent.run("distributor audit export --output e.jsonl && distributor audit export --format csv --output e.csv").returncode == 0
    *_, last = (sent.folder / "e.jsonl").read_text(encoding="utf-8").splitlines()
    event = json.loads(last)
    assert (event["event"], event["evidence"]) == ("exported", {"format": "jsonl"})
    assert not (sent.folder / "e.csv.verify.py").exists()
