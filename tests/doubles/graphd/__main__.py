"""The double as a process of its own: `python -m tests.doubles.graphd --folder FOLDER [--port N] [--orders FILE]`.

It prints one JSON line with its roots and ports, and ends when its standard input does. The folder keeps the CA, the log of
messages that left (`messages.jsonl`, each line on the disk before its 202) and their bytes; a second one in the same folder goes on there.
`--orders` is a JSON list of the control port's orders that are obeyed before anybody may connect.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import secrets
import sys
from pathlib import Path

from tests.doubles.graphd import contract, trust
from tests.doubles.graphd.control import Control
from tests.doubles.graphd.entra import Entra
from tests.doubles.graphd.graph import Graph
from tests.doubles.graphd.identity import Identity
from tests.doubles.graphd.state import Delivered, ServiceState
from tests.doubles.graphd.tokens import TokenSigner
from tests.doubles.graphd.wire import Port, Request, Send


def front(graph: Graph, entra: Entra) -> Port:
    """One port for both services, told apart by the path's first segment."""

    async def serve(request: Request, send: Send) -> None:
        await (graph if request.segments[0] == "graph" else entra).serve(request, send)

    return Port(serve)


async def main(options: argparse.Namespace) -> None:
    keys = trust.make(options.folder)
    service = ServiceState(
        Delivered(options.folder / "messages.jsonl", options.folder / "messages"), TokenSigner.of(keys.signing, keys.signing_public)
    )
    graph, entra = Graph(service, contract.read(), contract.read("beta")), Entra(service)
    https, http = front(graph, entra), Port(Identity(entra).serve)
    https.tls = keys.tls()
    control = Control(service, graph, entra, [https, http], secrets.token_hex(16))
    for order in json.loads(options.orders.read_text()) if options.orders else ():
        if wrong := control.obey({"key": control.key, **order}).get("error"):
            sys.exit(f"{order}: {wrong}")
    port = await https.open(options.port)
    service.login, service.graph = f"https://localhost:{port}", f"https://localhost:{port}/graph"
    ports = {"port": port, "identity_port": await http.open(), "control_port": await control.open(), "key": control.key}
    print(json.dumps(ports | {"login": service.login, "graph": service.graph}), flush=True)  # noqa: T201  whoever started it reads it
    await asyncio.to_thread(sys.stdin.read)  # until the test that started us is gone
    os._exit(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--orders", type=Path)
    asyncio.run(main(parser.parse_args()))
