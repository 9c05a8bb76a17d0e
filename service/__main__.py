"""python -m service: the server."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import uvicorn
from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from export.bundle import BundleError, open_bundle
from service.app import create_app
from service.drain import DrainingServer
from service.logs import configure_logs
from service.settings import Settings


class Mistake(Exception):
    """Something the person who starts the server can put right; one line."""


def read_settings(arguments: list[str]) -> Settings:
    """Flags over environment over defaults. Mistake names the setting."""
    unknown = sorted(
        name
        for name in os.environ
        if name.startswith("XCLIP_")
        and not name.startswith("XCLIP_TEST_")
        and name.removeprefix("XCLIP_").lower() not in Settings.model_fields
    )
    if unknown:
        raise Mistake(f"{unknown[0]} is no setting; see python -m service --help")
    try:
        return CliApp.run(Settings, cli_args=arguments)
    except ValidationError as error:
        issue = error.errors()[0]
        name = ".".join(str(part) for part in issue["loc"])
        raise Mistake(f"setting {name}: {issue['msg']}") from None
    except SettingsError as error:
        raise Mistake(str(error).splitlines()[0]) from None


def listen(settings: Settings) -> socket.socket:
    """The listening socket. Mistake where the address cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        raise Mistake(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}): "
            "choose another --port or --host"
        ) from None
    listener.listen(1024)
    listener.setblocking(False)
    return listener


def main(arguments: list[str] | None = None) -> int:
    """Run the server until it is told to stop."""
    try:
        settings = read_settings(sys.argv[1:] if arguments is None else arguments)
        bundle = open_bundle(settings.bundle)
        _check_folder(settings.upload_dir)
        listener = listen(settings)
    except (Mistake, BundleError) as mistake:
        print(f"service: {mistake}", file=sys.stderr)
        return 2
    configure_logs(settings.log_level, settings.log_format)
    host, port = listener.getsockname()[:2]
    print(
        f"xclip-serve: {bundle.manifest.name} on http://{host}:{port} (try it there in a browser; "
        f"API at /docs)",
        flush=True,
    )
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=15,
        h11_max_incomplete_event_size=1 << 16,
    )
    server = DrainingServer(config, app.state.server, settings.shutdown_grace_s)
    app.state.server.on_failure = lambda: setattr(server, "should_exit", True)
    # uvicorn raises the signal that stopped it once more, after an orderly end: exit with 0 then.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    server.run(sockets=[listener])
    if app.state.server.failure:
        print(f"service: {app.state.server.failure}", file=sys.stderr)
        return 1
    return 0 if server.started else 1


def _check_folder(folder: Path | None) -> None:
    if folder is not None and not os.access(folder, os.W_OK | os.X_OK):
        raise Mistake(f"upload_dir {folder} is no folder that can be written to")


if __name__ == "__main__":
    sys.exit(main())
