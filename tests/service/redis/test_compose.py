"""The Redis of docker-compose.yml, with its options, asks for the password that the API gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis

from tests.deploy.test_compose import REQUIRED, VARIABLE, services
from tests.service.redis.conftest import RedisServer

PASSWORD = "0123456789abcdef"


def test_the_password_of_compose_is_the_one_that_redis_asks_for(
    make_redis: Callable[..., RedisServer],
) -> None:
    words = [REQUIRED.sub(PASSWORD, word) for word in services()["redis"]["command"][1:]]
    server = make_redis(*(VARIABLE.sub(r"\2", word) for word in words), password=PASSWORD)
    address = VARIABLE.fullmatch(services()["api"]["environment"]["XCLIP_REDIS_URL"])
    assert address is not None
    url = address[2].replace("${REDIS_PASSWORD}", PASSWORD)
    with redis.Redis.from_url(url.replace("redis:6379", f"127.0.0.1:{server.port}")) as known:
        assert known.ping()
    with redis.Redis(port=server.port) as stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
