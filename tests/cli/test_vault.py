"""`distributor vault`: what a host can open, and a new key in its place, however often the exchange is cut short."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from distributor.bootstrap.rotation import Rotation
from distributor.cli import app
from distributor.files import atomic
from distributor.ledger import resealing
from distributor.ledger.repository import SqlLedger
from distributor.ledger.sqlite import sqlite3
from distributor.model.secret import Secret
from distributor.vault import AgeVault, make_identity, seal
from tests.workspace import Workspace

ROTATE = "distributor vault rotate --yes"
CHECK = "distributor vault status --check --json"


def config(workspace: Workspace) -> Path:
    return workspace.folder / "distributor.toml"


def recipients(workspace: Workspace) -> list[str]:
    return re.findall(r"age1[0-9a-z]+", config(workspace).read_text(encoding="utf-8"))


def identity(workspace: Workspace) -> AgeVault:
    return AgeVault(Secret((workspace.folder / "vault.key").read_text(encoding="utf-8")))


def status(workspace: Workspace, code: int = 0, **environment: str) -> dict[str, Any]:
    done = workspace.run(CHECK, **environment)
    assert done.returncode == code, done.stdout
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    return found


def one_held(workspace: Workspace) -> None:
    """Alice's password is ready, Bob's is held."""
    assert workspace.run("distributor send --yes --to alice@example.org && distributor send --dry-run look").returncode == 0


def reveal(workspace: Workspace, name: str, **environment: str) -> str:
    done = workspace.run(f"distributor password reveal {name}@example.org --reason 'she called' --stdout", **environment)
    assert done.returncode == 0, done.stdout
    return done.stdout.strip()


def sound(workspace: Workspace) -> None:
    done = workspace.run("distributor audit verify")
    assert done.returncode == 0, done.stdout


def test_status_tells_what_this_host_can_open(planned: Workspace) -> None:
    one_held(planned)
    (key,) = recipients(planned)
    found = status(planned)
    assert next(iter(found)) == "schema"
    assert found["schema"] == "distributor/vault/1"
    assert found["recipients"] == [key]
    assert found["identity"] == {"reference": "file:vault.key", "recipients": [key], "replaces": [], "error": None}
    assert found["passwords"] == {"held": 1, "ready": 1, "expired": 0}
    assert (found["sealed_to"], found["unopened"], found["next"]) == ({"1": 2}, [], None)
    shown = planned.run("distributor vault status --check").stdout
    assert f"{key[:12]}...{key[-6:]}" in shown
    assert key not in shown
    assert "passwords: 1 held, 1 ready, 0 expired; 2 sealed to 1 key" in shown
    assert "checked: 2 of 2 can be opened here" in shown
    assert "AGE-SECRET" not in shown + planned.run("distributor vault status --json").stdout


def test_a_host_without_identity_seals_only_and_that_is_fine(sent: Workspace) -> None:
    text = config(sent).read_text(encoding="utf-8")
    config(sent).write_text(re.sub(r"(?m)^identity = .*\n", "", text), encoding="utf-8")
    done = sent.run("distributor vault status")
    assert done.returncode == 0
    assert "identity: none on this host, which only seals" in done.stdout
    assert sent.run("distributor vault status --check").returncode == 3
    refused = sent.run(ROTATE)
    assert refused.returncode == 3
    assert "run this on the machine that has the identity" in refused.stdout


def test_a_lost_identity_is_said_with_exit_1(sent: Workspace) -> None:
    (sent.folder / "vault.key").unlink()
    done = sent.run("distributor vault status --json")
    assert done.returncode == 1
    assert "no such file" in json.loads(done.stdout)["identity"]["error"]


def test_a_password_that_cannot_be_opened_is_counted_and_nothing_of_it_is_shown(sent: Workspace) -> None:
    _, other = make_identity()
    with closing(sqlite3.connect(sent.folder / "distributor.db")) as connection:
        ((id_,),) = connection.execute("SELECT delivery FROM handover ORDER BY delivery LIMIT 1").fetchall()
        connection.execute("UPDATE handover SET sealed = ? WHERE delivery = ?", (seal([other])(Secret("tell-no-one"), id_), id_))
        connection.commit()
    assert status(sent, 1)["unopened"] == [id_]
    done = sent.run(ROTATE)
    assert done.returncode == 1
    assert f"{id_}: cannot be opened by this host's identity; left as it is" in done.stdout
    assert sent.run("distributor audit verify").returncode == 1
    assert (status(sent, 1)["unopened"], len(identity(sent).recipients)) == ([id_], 1)


def test_an_edited_password_is_not_made_right_by_a_rotation(sent: Workspace) -> None:
    with closing(sqlite3.connect(sent.folder / "distributor.db")) as connection:
        ((id_, sealed),) = connection.execute("SELECT delivery, sealed FROM handover ORDER BY delivery LIMIT 1").fetchall()
        password = identity(sent).open(sealed, id_)
        connection.execute("UPDATE handover SET sealed = ? WHERE delivery = ?", (seal(recipients(sent))(password, id_), id_))
        connection.commit()
    done = sent.run(ROTATE)
    assert done.returncode == 1
    assert f"{id_}: was modified outside distributor; left as it is" in done.stdout
    assert "password's sealed does not match the audit log" in sent.run("distributor audit verify").stdout


def test_a_rotation_replaces_the_key_everywhere(planned: Workspace) -> None:
    one_held(planned)
    (old,) = recipients(planned)
    secret = (planned.folder / "vault.key").read_text(encoding="utf-8")
    before = config(planned).read_text(encoding="utf-8")
    done = planned.run(ROTATE)
    assert done.returncode == 0, done.stdout
    steps = [line[:2] for line in done.stdout.splitlines() if re.match(r"\d\. ", line)]
    assert steps == ["1.", "2.", "3.", "4.", "5."]
    assert "AGE-SECRET" not in done.stdout
    (new,) = recipients(planned)
    assert new != old
    assert config(planned).read_text(encoding="utf-8") == before.replace(old, new)
    assert identity(planned).recipients == [new]
    assert secret.strip() not in (planned.folder / "vault.key").read_text(encoding="utf-8")
    assert (planned.folder / "vault.key").stat().st_mode & 0o777 == 0o600
    assert status(planned)["sealed_to"] == {"1": 2}
    sound(planned)
    events = json.loads(planned.run("distributor history alice@example.org --json").stdout)["events"]
    assert [event["evidence"]["recipients"] for event in events if event["event"] == "resealed"] == [[new, old], [new]]
    assert reveal(planned, "alice")
    assert planned.run("distributor send --yes").returncode == 0
    assert reveal(planned, "bob")
    sound(planned)


def test_a_rotation_keeps_the_other_recipients_and_drops_those_no_longer_configured(sent: Workspace) -> None:
    (kept, kept_key), (lost, lost_key) = make_identity(), make_identity()
    text = config(sent).read_text(encoding="utf-8")
    (old,) = recipients(sent)
    config(sent).write_text(text.replace(f'["{old}"]', f'["{lost_key}",\n  "{old}", # ours\n  "{kept_key}"]'), encoding="utf-8")
    assert sent.run(ROTATE).returncode == 0
    lines = config(sent).read_text(encoding="utf-8")
    new = identity(sent).recipients[0]
    assert f'["{lost_key}",\n  "{new}", # ours\n  "{kept_key}"]' in lines
    assert status(sent)["sealed_to"] == {"3": 2}
    config(sent).write_text(lines.replace(f'"{lost_key}",', ""), encoding="utf-8")
    hint = sent.run("distributor vault status").stdout
    assert "next: distributor vault rotate (seals every password to the current recipients)" in hint
    assert sent.run(ROTATE).returncode == 0
    with closing(sqlite3.connect(sent.folder / "distributor.db")) as connection:
        rows = connection.execute("SELECT delivery, sealed FROM handover").fetchall()
    for delivery, sealed in rows:
        assert AgeVault(kept).open(sealed, delivery) == identity(sent).open(sealed, delivery)
        with pytest.raises(Exception, match="another identity"):
            AgeVault(lost).open(sealed, delivery)


def test_a_configuration_that_is_not_ours_to_write_is_changed_by_a_person(sent: Workspace) -> None:
    text = config(sent).read_text(encoding="utf-8")
    (old,) = recipients(sent)
    odd = re.sub(r'\[vault\]\nrecipients = .*\nidentity = "file:vault.key".*\n', "", text)
    dotted = f'vault.recipients = ["{old}"]\nvault.identity = "file:vault.key"\n'
    config(sent).write_text(dotted + odd, encoding="utf-8")
    done = sent.run(ROTATE)
    assert done.returncode == 1, done.stdout
    line = re.search(r'(?m)^recipients = \["(age1[0-9a-z]+)"\]$', done.stdout)
    assert line is not None
    assert "cannot be changed by this program" in done.stdout
    assert (status(sent)["sealed_to"], status(sent)["next"]) == (
        {"2": 2},
        "distributor vault rotate (it was begun and is not finished)",
    )
    config(sent).write_text(config(sent).read_text(encoding="utf-8").replace(old, line[1]), encoding="utf-8")
    assert sent.run(ROTATE).returncode == 0
    assert identity(sent).recipients == [line[1]]
    assert status(sent)["sealed_to"] == {"1": 2}
    sound(sent)


@pytest.mark.parametrize("scheme", ["env", "cred"])
def test_an_identity_that_the_program_cannot_write_is_put_in_its_place_by_a_person(sent: Workspace, scheme: str) -> None:
    store = sent.folder / "credentials"
    store.mkdir()
    (sent.folder / "vault.key").rename(store / "age")
    text = config(sent).read_text(encoding="utf-8").replace("file:vault.key", "env:AGE" if scheme == "env" else "cred:age")
    config(sent).write_text(text, encoding="utf-8")
    place = {"CREDENTIALS_DIRECTORY": str(store)} if scheme == "cred" else {"AGE": (store / "age").read_text(encoding="utf-8")}
    assert status(sent, **place)["unopened"] == []
    refused = sent.run(ROTATE, **place)
    assert refused.returncode == 2
    assert "add --identity-output FILE" in refused.stdout
    with_file = f"{ROTATE} --identity-output new.key"
    for _ in range(2):  # a second run goes on with the same new key
        done = sent.run(with_file, **place)
        assert done.returncode == 1
        assert "now put the content of new.key in the place of" in done.stdout
        assert ("systemd-creds encrypt --name=age new.key" in done.stdout) == (scheme == "cred")
    assert (sent.folder / "new.key").stat().st_mode & 0o777 == 0o600
    assert status(sent, **place)["unopened"] == []
    new = (sent.folder / "new.key").read_text(encoding="utf-8")
    place = {"CREDENTIALS_DIRECTORY": str(sent.folder)} if scheme == "cred" else {"AGE": new}
    (sent.folder / "age").write_text(new, encoding="utf-8")
    done = sent.run(with_file, **place)
    assert done.returncode == 0, done.stdout
    alone = (sent.folder / "new.key").read_text(encoding="utf-8")
    (sent.folder / "age").write_text(alone, encoding="utf-8")
    place = place if scheme == "cred" else {"AGE": alone}
    found = status(sent, **place)
    assert (found["sealed_to"], found["unopened"], found["identity"]["replaces"]) == ({"1": 2}, [], [])
    assert reveal(sent, "alice", **place)
    sound(sent)


def test_an_identity_in_the_keyring_is_replaced_there(sent: Workspace) -> None:
    """Through the library, whose backend keeps its passwords in a file here."""
    store, key = sent.folder / "keyring.json", sent.folder / "vault.key"
    store.write_text(json.dumps({"distributor/vault": key.read_text(encoding="utf-8")}), encoding="utf-8")
    key.unlink()
    config(sent).write_text(
        config(sent).read_text(encoding="utf-8").replace("file:vault.key", "keyring:distributor/vault"), encoding="utf-8"
    )
    place = {"PYTHON_KEYRING_BACKEND": "tests.doubles.keyring_file.FileKeyring", "KEYRING_FILE": str(store)}
    (old,) = recipients(sent)
    refused = sent.run(ROTATE, KEYRING_LOCKED="1", **place)
    assert refused.returncode == 3
    assert "cannot write to the keyring (PasswordSetError)" in refused.stdout
    assert (recipients(sent), status(sent, **place)["sealed_to"]) == ([old], {"1": 2})
    done = sent.run(ROTATE, **place)
    assert done.returncode == 0, done.stdout
    assert "5. old key removed from keyring:distributor/vault" in done.stdout
    (new,) = recipients(sent)
    assert AgeVault(Secret(json.loads(store.read_text(encoding="utf-8"))["distributor/vault"])).recipients == [new] != [old]
    assert reveal(sent, "alice", **place)
    sound(sent)


def test_a_running_sender_keeps_the_old_key_until_the_next_run(sent: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distributor.bootstrap.rotation.process.is_alive", lambda _: True)
    words = ["vault", "rotate", "--yes", "--config", str(config(sent))]
    assert app.run(words) == 1
    assert len(identity(sent).recipients) == 2
    assert status(sent)["sealed_to"] == {"2": 2}
    assert "the key is being replaced, and that is not finished" in sent.run("distributor doctor").stdout
    assert app.run(words) == 0
    assert len(identity(sent).recipients) == 1
    assert status(sent)["sealed_to"] == {"1": 2}


def test_nobody_answers_no_by_accident(sent: Workspace) -> None:
    before = (sent.folder / "vault.key").read_bytes()
    done = sent.run("distributor vault rotate")
    assert done.returncode == 2
    assert "--yes" in done.stdout
    assert (sent.folder / "vault.key").read_bytes() == before


# --- killed at every step ---------------------------------------------------------------------------------------------

STEPS = [
    *((Rotation, "write_identity", when, 1) for when in ("before", "after")),
    *((SqlLedger, "reseal", when, hit) for hit in (1, 2) for when in ("before", "after")),
    *((resealing, "reseal", "after", hit) for hit in (1, 2)),  # inside the transaction
    *((atomic, "publish", when, hit) for hit in (1, 3) for when in ("before", "after")),  # the identity
    *((atomic, "publish", when, 2) for when in ("before", "after")),  # the configuration
    *((Rotation, "finish", when, 1) for when in ("before", "after")),
]


def killed(words: list[str], where: Any, name: str, when: str, hit: int) -> int:  # noqa: ANN401  a class or a module
    """The signal that ended a child process at this step."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    real: Callable[..., object] = getattr(where, name)
    count = 0

    def struck(*given: object, **named: object) -> object:
        nonlocal count
        count += 1
        if count == hit and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(*given, **named)
        if count == hit:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(where, name, struck)
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115  the child ends before it is closed
    os._exit(app.run(words))


MOST = pytest.mark.slow(reason="the others lie beside a new identity, a configuration and a transaction cut off")
ALWAYS = [(Rotation, "write_identity", "after", 1), (resealing, "reseal", "after", 2), (atomic, "publish", "after", 2)]
CELLS = [pytest.param(*step, marks=[] if step in ALWAYS else [MOST]) for step in STEPS]


@pytest.mark.parametrize(("where", "name", "when", "hit"), CELLS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_rotation_that_was_killed_locks_no_password_away_and_is_finished_by_the_next(
    planned: Workspace, where: object, name: str, when: str, hit: int
) -> None:
    one_held(planned)
    (old,) = recipients(planned)
    words = ["vault", "rotate", "--yes", "--config", str(config(planned))]
    assert killed(words, where, name, when, hit) == -signal.SIGKILL
    assert status(planned)["unopened"] == []
    sound(planned)
    assert planned.run(ROTATE).returncode == 0
    assert status(planned)["unopened"] == []
    assert identity(planned).recipients == recipients(planned) != [old]
    assert status(planned)["sealed_to"] == {"1": 2}
    sound(planned)
    assert reveal(planned, "alice")
    assert [path.name for path in planned.folder.iterdir() if path.suffix == ".part"] == []  # one may have held the old key
