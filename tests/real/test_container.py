"""The image is built from the container file, and its commands run in it: without root, capabilities and a file system to write to."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.authority import Authority
from tests.needs import lacking, require
from tests.portal.conftest import INIT, write_portal
from tests.workspace import Workspace

pytestmark = pytest.mark.slow(reason="a small Debian is made, and the image built on it")

ROOT = Path(__file__).parents[2]
PACKAGES = "python3,python3-venv,ca-certificates,passwd"
USER = 10001
LIMIT = 300.0  # seconds for each step on a busy machine
OWN_CGROUPS = "umount --recursive /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && ip link set lo up && exec "


@dataclass(frozen=True)
class Image:
    """The image, unpacked, and what its configuration says."""

    folder: Path
    root: Path
    config: dict[str, object]

    def words(self, *words: str, workspace: Path, name: str, network: bool = False) -> list[str]:
        """The command line that runs words in a container of its own; with the machine's network, or with loopback only."""
        bundle = self.folder / name
        bundle.mkdir()
        run(require("crun"), "spec", cwd=bundle)
        spec = json.loads((bundle / "config.json").read_text())
        kinds = ("pid", "ipc", "uts", "mount")
        spec["root"] = {"path": str(self.root), "readonly": True}
        spec["process"] |= {
            "terminal": False,
            "args": list(words),
            "cwd": self.config["WorkingDir"],
            "env": self.config["Env"],
            "user": {"uid": int(str(self.config["User"])), "gid": USER},
            "capabilities": {kind: [] for kind in spec["process"]["capabilities"]},
            "noNewPrivileges": True,
        }
        bound = {"destination": "/workspace", "type": "bind", "source": str(workspace), "options": ["rbind", "rw"]}
        temporary = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs"}  # noqa: S108  in the container
        spec["mounts"] = [*(mount for mount in spec["mounts"] if mount["destination"] != "/sys/fs/cgroup"), bound, temporary]
        spec["linux"]["namespaces"] = [{"type": kind} for kind in kinds]
        spec["linux"].pop("resources", None)
        (bundle / "config.json").write_text(json.dumps(spec))
        return self.crun("run", "--bundle", str(bundle), name, network=network)

    def crun(self, *words: str, network: bool) -> list[str]:
        own = ["unshare", "--mount"] if network else ["unshare", "--mount", "--net"]
        crun = [require("crun"), f"--root={self.folder / 'state'}", "--cgroup-manager=disabled", *words]
        return [*own, "sh", "-c", OWN_CGROUPS + shlex.join(crun)]


def run(*words: str, cwd: Path | None = None, code: int = 0) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def image() -> Iterator[Image]:
    buildah, bootstrap = require("buildah"), require("mmdebstrap")
    if os.geteuid() != 0:
        lacking("root, for containers")
    folder, suite = Path(tempfile.mkdtemp(dir="/var/tmp")), platform.freedesktop_os_release()["VERSION_CODENAME"]  # not in memory
    own = [buildah, f"--root={folder / 'images'}", f"--runroot={folder / 'run'}", "--storage-driver=vfs"]
    try:
        base = run(*own, "from", "scratch")
        system = Path(run(*own, "mount", base))
        run(bootstrap, "--quiet", "--variant=essential", "--format=directory", f"--include={PACKAGES}", suite, str(system / "new"))
        for part in (system / "new").iterdir():
            shutil.move(part, system)
        run(*own, "config", *_certificates(system), base)
        run(*own, "commit", "--quiet", base, "localhost/base")
        build = ["bud", "--isolation=chroot", "--format=docker", "--network=host", "--build-arg=BASE=localhost/base"]
        run(*own, *build, "--tag=localhost/distributor", "--file=docs/deploy/Containerfile", str(ROOT), cwd=ROOT)
        made = run(*own, "from", "localhost/distributor")
        config = json.loads(run(*own, "inspect", made))["Docker"]["config"]
        yield Image(folder, Path(run(*own, "mount", made)), config)
    finally:
        subprocess.run([*own, "umount", "--all"], capture_output=True, check=False)
        shutil.rmtree(folder)


def _certificates(system: Path) -> list[str]:
    """What pip on this machine trusts, where it is told."""
    if (found := os.environ.get("PIP_CERT")) is None:
        return []
    (system / found.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(found, system / found.lstrip("/"))
    return [f"--env=PIP_CERT={found}"]


@contextmanager
def running(words: list[str]) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        limit = threading.Timer(LIMIT, process.kill)
        limit.start()
        try:
            yield process
        finally:
            limit.cancel()
            process.kill()


@pytest.fixture
def workspace(authority: Authority, tmp_path: Path) -> Iterator[Workspace]:
    made = Workspace(tmp_path, authority)
    made.run_script(f"{INIT}+ server\n+ people\n")
    write_portal(made.folder, "http://localhost:9", "http://127.0.0.1:9/none")
    run("chown", "-R", str(USER), str(tmp_path))
    yield made
    made.close()


def test_the_image_has_the_program_without_its_build_tools(image: Image, tmp_path: Path) -> None:
    os.chown(tmp_path, USER, USER)
    said = run(*image.words("distributor", "--version", "--verbose", workspace=tmp_path, name="version"))
    assert re.search(r"^extra portal: (?!.*not installed)", said, re.MULTILINE)
    assert re.search(r"^extra postgresql: psycopg [\d.]+$", said, re.MULTILINE)
    installed = {path.name for path in (image.root / "opt/distributor/bin").iterdir()}
    assert "distributor" in installed
    assert not {"pip", "hatchling", "pyproject-build"} & installed
    assert not (image.root / "source").exists()


def test_nothing_but_the_workspace_can_be_written_to(image: Image, tmp_path: Path) -> None:
    os.chown(tmp_path, USER, USER)
    program = "import os; print(os.getuid(), [os.access(place, os.W_OK) for place in ('/', '/opt/distributor', '/etc', '/workspace')])"
    assert run(*image.words("python", "-c", program, workspace=tmp_path, name="writes")) == f"{USER} [False, False, False, True]"


def test_the_portal_is_healthy_in_it_and_ends_when_it_is_told_to(image: Image, workspace: Workspace) -> None:
    assert isinstance(image.config["Entrypoint"], list)
    assert isinstance(image.config["Cmd"], list)
    health = image.config["Healthcheck"]["Test"]  # type: ignore[index]
    assert health[0] == "CMD"
    words = image.words(*image.config["Entrypoint"], *image.config["Cmd"], workspace=workspace.folder, name="portal")
    with running(words) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("listening on http://0.0.0.0:8000 ")
        check = [
            sys.executable,
            "-c",
            "import time, subprocess, sys; [time.sleep(1) for _ in range(60) if subprocess.call(sys.argv[1:])][:1]",
        ]
        run(*check, *image.crun("exec", "portal", *health[1:], network=True))
        process.send_signal(signal.SIGTERM)
        assert "stopped" in process.stderr.read()
        assert process.wait(60) == 0


def test_messages_are_sent_from_it_until_it_is_told_to_end(image: Image, workspace: Workspace) -> None:
    plan = ("distributor", "plan", "certificates", "--roster", "people.csv")
    assert ": 2 ready" in run(*image.words(*plan, workspace=workspace.folder, name="plan"))
    words = image.words("distributor", "send", "--follow", "--yes", "--log", "json", workspace=workspace.folder, name="send", network=True)
    with running(words) as process:
        assert process.stderr is not None
        assert any('"accepted"' in line for line in process.stderr)
        process.send_signal(signal.SIGTERM)
        assert '"stopped"' in process.stderr.read()
        assert process.wait(60) == 0
    assert workspace.handler is not None
    assert workspace.handler.messages
    assert list((workspace.folder / "state").iterdir())
