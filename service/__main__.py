"""python -m service: the server."""

from __future__ import annotations

import gc
import signal
import socket
import sys
from typing import TYPE_CHECKING

from model.command_line import complaint
from service.lifecycle.command_line import PROGRAM, Mistake, listen, listen_for_ops, read_settings

if TYPE_CHECKING:
    from service.lifecycle.service_state import ServiceState
    from service.settings import Settings
    from service.transport.graceful_shutdown import DrainingServer

# How long a thread that reads a large form goes first at each of the dozens of system calls that a
# small request takes: Python's 5 ms made those wait twice as long beside many vectors as text.
GIVE_WAY_EVERY_S = 0.001


def main(arguments: list[str] | None = None) -> int:
    """Run the server until it is told to stop."""
    # Nothing that a start makes is garbage: looking for some takes a tenth of it.
    gc.disable()
    sys.setswitchinterval(GIVE_WAY_EVERY_S)
    try:
        settings = read_settings(sys.argv[1:] if arguments is None else arguments)
        listener, ops_listener = listen(settings), listen_for_ops(settings)
    except Mistake as mistake:
        return _complain(str(mistake))
    return _run(settings, listener, ops_listener)


def _run(
    settings: Settings,
    listener: socket.socket,
    ops_listener: socket.socket | None,
) -> int:
    # Imported here: a mistake in the settings is told before the application is loaded.
    from service.app import create_app
    from service.lifecycle.detached import still_running
    from service.lifecycle.open_files import allow_open_files
    from service.telemetry.logs import configure_logs
    from service.transport.graceful_shutdown import http_server, leave

    configure_logs(settings.log_level, settings.log_format)
    allow_open_files(settings.max_connections)
    app = create_app(settings, ops_listener=ops_listener)
    server: ServiceState = app.state.server
    web = http_server(app, settings)
    server.on_ready = lambda: _greet(server, listener)
    server.on_failure = lambda: _give_up(web)
    # Before uvicorn takes the signals, and after its orderly end, when it raises once more the one
    # that stopped it: exit with 0 then.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: _give_up(web))
    web.run(sockets=[listener])
    status = 0 if web.started else 1
    if server.failure:
        status = _complain(server.failure)
    if still_running():  # Python would wait for it, and it may never end
        leave(status)
    return status


def _greet(server: ServiceState, listener: socket.socket) -> None:
    """Print where the server listens and what it serves."""
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    engine = server.engine
    print(
        f"xclip-serve: http://{shown}:{port} is ready: {engine.bundle.manifest.name} on "
        f"{engine.runtime.name}, {engine.runtime.precision} (open it in a browser; API at /docs)",
        flush=True,
    )
    # What the start has made stays. A full collection, for which every request stops, need not look
    # at it again: it takes some 50 ms.
    gc.freeze()
    gc.enable()


def _give_up(web: DrainingServer) -> None:
    web.should_exit = True


def _complain(mistake: str) -> int:
    print(complaint(PROGRAM, mistake), file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
