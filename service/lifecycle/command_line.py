"""The start of the command: read settings, bind sockets, report mistakes in one line."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import CliApp, CliSettingsSource, SettingsError

from model.command_line import as_typed, first_line
from service.contract.upload import check_storage
from service.lifecycle.kubernetes import PREFIX, service_variables
from service.settings import Settings

PROGRAM = "python -m service"
OURS_IN_TESTS = "XCLIP_TEST_"
OF_OTHER_COMMANDS = {"XCLIP_API_KEY"}  # of `xclip-serve`
BACKLOG = 1024
# A client that takes nothing of what was sent to it for so long is gone.
MAX_UNSENT_BYTES = 32 << 10  # so that it shows how fast a client reads
UNSENT_TIMEOUT_MS = 60_000


class Mistake(Exception):
    """A mistake in how the server was started; its text is one line that says what to do."""


def read_settings(arguments: list[str]) -> Settings:
    """Read the settings: flags over environment over defaults.

    Raises:
        Mistake: Names the setting that is unknown, ill-typed or cannot work here.
    """
    _pass_over_service_variables()
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    given = (name.upper() for name in os.environ)
    ours = {n for n in given if n.startswith(PREFIX) and not n.startswith(OURS_IN_TESTS)}
    if unknown := sorted(ours - known - OF_OTHER_COMMANDS):
        raise Mistake(f"{unknown[0]} is no setting; see {PROGRAM} --help")
    try:
        flags: CliSettingsSource[Any] = CliSettingsSource(Settings, cli_prog_name=as_typed(PROGRAM))
        settings = CliApp.run(Settings, cli_args=arguments, cli_settings_source=flags)
    except ValidationError as error:
        issue = error.errors()[0]
        name = ".".join(str(part) for part in issue["loc"])
        raise Mistake(f"setting {name}: {issue['msg']}") from None
    except SettingsError as error:
        what = first_line(error).removeprefix("error parsing CLI: ")
        raise Mistake(f"{what}; see {PROGRAM} --help") from None
    _check_upload_folder(settings.upload_dir)
    if settings.api_keys_file is not None:
        from service.access.api_keys import read_keys

        try:
            read_keys(settings.api_keys_file)
        except ValueError as error:
            raise Mistake(f"api_keys_file {error}") from None
    return settings


def _pass_over_service_variables() -> None:
    """Remove Kubernetes' service variables from the environment, with one line."""
    names = service_variables(os.environ)
    if names:
        print(
            f"service: passed over {len(names)} variables that Kubernetes sets for services, such "
            f"as {names[0]}; enableServiceLinks: false in the pod keeps them out",
            file=sys.stderr,
        )
    for name in names:
        del os.environ[name]


def _check_upload_folder(folder: Path | None) -> None:
    """Store a few bytes as uploads are stored. Mistake where that fails."""
    try:
        check_storage(folder)
    except OSError as error:
        where = f"upload_dir {folder}" if folder else "the folder for temporary files"
        raise Mistake(
            f"uploads cannot be stored in {where} ({error.strerror}): name one that can be written "
            "to with --upload-dir; in a container with a read-only root, mount a tmpfs at /tmp"
        ) from None


def listen(settings: Settings) -> socket.socket:
    """Bind the API's socket. Mistake where the address cannot be had."""
    return _listen(settings.host, settings.port, "--port or --host")


def listen_for_ops(settings: Settings) -> socket.socket | None:
    """Bind the operators' socket, where /metrics and /docs have a port of their own."""
    if settings.ops_port is None:
        return None
    return _listen(settings.ops_host or settings.host, settings.ops_port, "--ops-port")


def _listen(host: str, port: int, flags: str) -> socket.socket:
    host = "::" if host == "*" else host.strip("[]")
    try:
        if host == "::" and not socket.has_dualstack_ipv6():
            host = "0.0.0.0"  # noqa: S104  # every address, on a kernel without IPv6
        listener = _bound(host, port)
    except OSError as error:
        raise Mistake(
            f"cannot listen on {host} port {port} ({error.strerror}): choose another {flags}"
        ) from None
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener


def _bound(host: str, port: int) -> socket.socket:
    """Bind a socket; `::` takes connections over IPv4 as well."""
    choices = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, *_, address = min(choices, key=lambda choice: choice[0] != socket.AF_INET)
    listener = socket.socket(family)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, host != "::")
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # what is accepted inherits it
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNSENT_TIMEOUT_MS)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):  # and this: the rest of an answer waits with us
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, MAX_UNSENT_BYTES)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener
