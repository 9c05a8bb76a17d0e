"""The server as an application of Ray Serve: `serve deploy` takes `xclip_serve.ray_serve:app`.

Each replica runs the server's own app, so answers, limits of requests, problems and addresses are
those of `xclip-serve serve`. What stands before it is Ray's proxy instead of our transport:
docs/distributed.md says what that changes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any

import ray
from fastapi import FastAPI
from ray import serve

from service.app import create_app
from service.contract.errors import ApiError
from service.lifecycle.service_state import ServiceState
from service.settings import Settings

# Our own admission refuses, with 429 in the one form; Ray's queue, which refuses with a bare 503,
# stands far behind it and is there so that the proxy's memory has a bound.
ROOM = 2
WAITING_PER_REPLICA = 4  # one is answered at a time; with more, another replica is worth its memory


def app(args: Mapping[str, Any]) -> serve.Application:
    """Build the application.

    Args:
        args: Settings of the server by their names, such as `bundle`, `precision`, `max_in_flight`;
            `XCLIP_*` of the environment count as well.

    Returns:
        What `serve.run`, `serve run` and `serve deploy` take. `deployments` of a config file may
        change how many replicas there are and what they need.

    Raises:
        ValueError: A setting is wrong.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    given = dict(args)
    settings = Settings(**given)
    at_once = ROOM * (settings.max_in_flight + settings.max_uploads)

    def build() -> FastAPI:
        return replica_app(given)

    deployment = serve.deployment(
        name="xclip-serve",
        max_ongoing_requests=at_once,
        max_queued_requests=at_once,
        autoscaling_config={
            "min_replicas": 1,
            "max_replicas": 4,
            "target_ongoing_requests": WAITING_PER_REPLICA,
        },
        graceful_shutdown_timeout_s=settings.request_timeout_s,
    )
    return deployment(serve.ingress(build)(Replica)).bind()


class Replica:
    """A server without a port; Ray gives it its `app`."""

    app: FastAPI

    async def check_health(self) -> None:
        """Fail where /readyz would: Ray then puts another replica in this one's place."""
        server: ServiceState = self.app.state.server
        try:
            await server.check()
        except ApiError as error:
            raise RuntimeError(error.detail) from None


def replica_app(given: Mapping[str, Any]) -> FastAPI:
    """Make the app of a replica, on the cores it was given; it has started once it is ready."""
    cores = max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1)))
    web = create_app(Settings(**{"threads": cores, "decode_workers": cores, **given}))
    server: ServiceState = web.state.server
    begin = web.router.lifespan_context

    @contextlib.asynccontextmanager
    async def until_ready(app: FastAPI) -> AsyncIterator[None]:
        async with begin(app):
            await server.started()
            if server.failure:
                raise RuntimeError(server.failure)
            yield

    web.router.lifespan_context = until_ready
    return web
