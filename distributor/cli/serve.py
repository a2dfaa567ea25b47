"""`distributor serve`: the portal."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Annotated

import typer

from distributor.cli.log import Log, LogFormat, Notifier, in_background
from distributor.cli.options import Config, LogOption
from distributor.cli.render import stderr_line
from distributor.errors import Error, InvalidInput

if TYPE_CHECKING:
    from threading import Event

    from starlette.types import ASGIApp
    from uvicorn import Server

    from distributor.config import Settings
    from distributor.model.ports import Ledger


EXAMPLE = "\b\nexample:\n  distributor serve --host 127.0.0.1 --port 8000"
KEEP_ALIVE = 15  # seconds that a connection is kept without a request
GRACE = 10  # seconds that requests may take to finish after SIGTERM
TICKS = 10  # of uvicorn in a second
CHECKPOINT_EVERY = 600.0  # seconds between two looks for events that no checkpoint has yet
WAITING = 512  # connections that the kernel keeps while they wait


def serve(
    host: Annotated[str, typer.Option("--host", metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port to listen on; 0 for any free one.")] = 8000,
    log: LogOption = LogFormat.TEXT,
    chosen: Config = None,
) -> None:
    """Run the portal, where people get their passwords and ask for another copy.

    It speaks HTTP without TLS: put a reverse proxy with TLS in front of it. [portal] in distributor.toml says who may do what.
    """
    from distributor import bootstrap
    from distributor.bootstrap.portal import missing_extra, portal_settings

    settings = bootstrap.settings(chosen)
    if missing := missing_extra():
        raise InvalidInput(f"the portal needs {missing}, which is not installed", hint="pip install 'distributor[portal]'")
    portal_settings(settings)
    listener = _listen(host, port)
    try:
        _run(settings, listener, Log(log, bootstrap.now))
    finally:
        listener.close()


def _listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises InvalidInput."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=WAITING)
    except OSError as error:
        reason = (error.strerror or "cannot listen").lower()
        raise InvalidInput(reason, where=f"{host}:{port}", hint="choose another --host or --port") from None


def _run(settings: Settings, listener: socket.socket, log: Log) -> None:
    from distributor import bootstrap
    from distributor.portal.app import compose, create_app

    _log_to(log)
    notify = Notifier.of(os.environ)
    with bootstrap.open_for_writing(settings, sends=True) as ledger:
        portal = compose(settings, ledger)
        host, port = listener.getsockname()[:2]
        server = _server(create_app(portal), notify)
        # before uvicorn takes it over, and once more when uvicorn has stopped: the ledger is still open then
        signal.signal(signal.SIGTERM, lambda *_: setattr(server, "should_exit", True))
        stderr_line(f"listening on http://{f'[{host}]' if ':' in host else host}:{port} for {portal.settings.url}")
        if portal.actions.vault is None:
            stderr_line("no `vault.identity` on this host: the portal shows no passwords, the helpdesk does")
        with _checkpoints(settings, ledger, log):
            server.run(sockets=[listener])
        notify("STOPPING=1")
        stderr_line("stopped")


def _checkpoints(settings: Settings, ledger: Ledger, log: Log) -> AbstractContextManager[None]:
    """Meanwhile, publish checkpoints of what happens in the portal, where they are configured."""
    from distributor.bootstrap.checkpoints import publish_meanwhile

    def work(ended: Event) -> None:
        while not ended.wait(CHECKPOINT_EVERY):
            try:
                publish_meanwhile(settings, ledger, lambda line: log("checkpoint", line))
            except Error as error:
                log("checkpoint", str(error))

    return in_background(work, GRACE) if settings.audit.checkpoints else nullcontext()


def _log_to(log: Log) -> None:
    """Write what the portal and its libraries log as log lines: every request, and warnings of others."""
    import logging

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            log("request" if record.levelno == logging.INFO else record.levelname.lower(), record.getMessage())

    logging.basicConfig(level=logging.WARNING, handlers=[Lines()])
    logging.getLogger("distributor.portal").setLevel(logging.INFO)


def _server(app: ASGIApp, notify: Notifier) -> Server:
    """The web server, which tells systemd when it is ready and that it lives."""
    import uvicorn

    class Notifying(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets=sockets)
            notify("READY=1\nSTATUS=serves the portal")

        async def on_tick(self, counter: int) -> bool:
            if counter % max(int(notify.every * TICKS), 1) == 0:
                notify("WATCHDOG=1")
            return await super().on_tick(counter)

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
        timeout_keep_alive=KEEP_ALIVE,
        ws="none",
    )
    return Notifying(config)
