"""The service of `demo --graph`: the double of Microsoft Graph and Entra from the project's tests, which only a clone has."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributor.errors import InvalidInput

MAILBOX = "certificates@example.org"
SECRET = "DEMO_SECRET"  # noqa: S105  the name of a variable
ROLES = ("Mail.Send", "Mail.ReadWrite")


@dataclass(frozen=True, slots=True)
class DemoTenant:
    """A tenant with one mailbox and one app, on this machine."""

    double: Any

    @property
    def messages(self) -> dict[str, bytes]:
        """The messages that were sent from the mailbox, by recipient."""
        return {record["to"]: self.double.bytes_of(record) for record in self.double.stored()}


@contextmanager
def tenant() -> Iterator[tuple[DemoTenant, str]]:
    """A running tenant, and the tables of a configuration that sends through it."""
    graphd = _double()
    with tempfile.TemporaryDirectory(prefix="distributor-cloud-") as folder, graphd(Path(folder)) as double:
        double.mailbox(MAILBOX)
        client = double.app(secrets={"a secret of the demo": None}, roles=list(ROLES))
        with _environment({**double.environment, SECRET: "a secret of the demo"}):
            yield DemoTenant(double), _tables(double, client)


def _double() -> Any:  # noqa: ANN401  a function of the tests
    root = Path(__file__).parents[3]
    if not (root / "tests" / "doubles" / "graphd").is_dir():
        raise InvalidInput("Microsoft's side is played by the project's tests, which are not here", where="demo --graph", hint=_CLONE)
    sys.path.insert(0, str(root))
    try:
        return importlib.import_module("tests.doubles.graphd").graphd
    except ImportError as error:
        raise InvalidInput(f"Microsoft's side needs {error.name}, which is not installed", where="demo --graph", hint=_CLONE) from None


_CLONE = "in a clone of the project: make demo-graph"


def _tables(double: Any, client: str) -> str:  # noqa: ANN401  the double's handle
    return (
        f'[transport]\nkind = "graph"\nmailbox = "{MAILBOX}"\ntenant = "{double.tenant}"\nclient_id = "{client}"\n'
        f'secret = "env:{SECRET}"\nlogin = "{double.login}"\ngraph = "{double.graph}"\nsave_copy = false\n'
        'rate = "600/min"                   # the real one takes 30/min\n\n'
    )


@contextmanager
def _environment(more: dict[str, str]) -> Iterator[None]:
    """Set more environment variables, and restore the old ones at the end."""
    before = {name: os.environ.get(name) for name in more}
    os.environ.update(more)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
