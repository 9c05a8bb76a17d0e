"""What a worker cannot do, tried from inside one, measure by measure."""

from __future__ import annotations

import pytest

from model.inputs import VideoError
from service.decode import DecodeCrashed
from service.decode.syscalls import FilterUnavailable

# What no decoder ever does ends the process; the rest is refused and the clip with it.
DEADLY = ("tcp", "udp", "pair", "connect", "exec", "vfork", "signal", "ptrace")
REFUSED = {
    "open": "EPERM",
    "create": "EPERM",
    "unlink": "EPERM",
    "list": "EPERM",
    "fork": "EPERM",
    "spawn": "EPERM",
    "executable": "EPERM",
    "memfd": "EPERM",
    "truncate": "EPERM",
    "sigign": "EPERM",
    "thread": "RuntimeError",
    "more": "ValueError",
}


async def told(pool, path):
    with pytest.raises(VideoError) as caught:
        await pool.decode(path)
    assert caught.value.code == "told"
    return caught.value.detail


def test_every_measure_holds_here(with_pool, order):
    async def scenario(pool):
        assert set(pool.sandbox.values()) == {"yes"}
        assert {"seccomp", "landlock", "limits", "no_new_privs"} <= set(pool.sandbox)

    with_pool(scenario)


def test_what_is_refused(with_pool, order):
    async def scenario(pool):
        for what, answer in REFUSED.items():
            assert (await told(pool, order(f"attempt {what}"))).startswith(answer), what
        assert not pool.stats.ended

    with_pool(scenario)


def test_what_is_deadly(with_pool, order):
    async def scenario(pool):
        for what in DEADLY:
            with pytest.raises(DecodeCrashed):
                await pool.decode(order(f"attempt {what}"))
            assert pool.stats.ended == {"forbidden": 1}, what
            pool.stats.ended.clear()

    with_pool(scenario, options={"spares": 2})


def test_the_attempts_can_succeed(with_pool, order, monkeypatch):
    """Without confinement each of them works: so it is confinement that stops them."""
    monkeypatch.setattr("service.decode.pool.compile_filter", lambda: "")

    async def scenario(pool):
        assert await told(pool, order("attempt memfd")) == "succeeded"
        assert await told(pool, order("attempt pair")) == "succeeded"
        assert await told(pool, order("attempt executable")) == "succeeded"

    with_pool(scenario)


def test_landlock_holds_by_itself(with_pool, order, monkeypatch, caplog):
    """Where libseccomp is missing: one warning, and files and ports are still out of reach."""

    def missing():
        raise FilterUnavailable("install it")

    monkeypatch.setattr("service.decode.pool.compile_filter", missing)

    async def scenario(pool):
        assert pool.sandbox["seccomp"].startswith("no")
        assert pool.sandbox["landlock"] == "yes"
        assert await told(pool, order("attempt open")) == "EACCES"
        assert await told(pool, order("attempt create")) == "EACCES"
        assert await told(pool, order("attempt list")) == "EACCES"
        assert await told(pool, order("attempt exec")) == "EACCES"

    with_pool(scenario, workers=2)
    assert caplog.text.count("not filtered") == 1
    assert caplog.text.count("confined less") == 1


def test_the_upload_cannot_be_written(with_pool, order, monkeypatch):
    """Its descriptor can only read, also where no filter forbids writing."""
    monkeypatch.setattr("service.decode.pool.compile_filter", lambda: "")
    upload = order("write")

    async def scenario(pool):
        with upload.open("r+b") as file:
            assert await told(pool, file.fileno()) == "EBADF"

    with_pool(scenario)
    assert upload.read_text() == "write"


def test_a_worker_loads_little_and_knows_less(with_pool, order, monkeypatch):
    monkeypatch.setenv("XCLIP_API_KEYS", "secret")

    async def scenario(pool):
        assert await told(pool, order("modules av numpy torch")) == "av numpy"
        unwanted = (
            "torch onnxruntime openvino fastapi starlette uvicorn uvloop asyncio redis cv2 "
            "transformers subprocess ssl multiprocessing service.decode.pool service.app"
        )
        assert await told(pool, order(f"modules {unwanted}")) == "none"
        known = set((await told(pool, order("environment"))).split())
        assert known <= {
            "LANG", "LC_CTYPE", "PYTHONPATH", "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS",
            "LD_LIBRARY_PATH",
        }  # fmt: skip

    with_pool(scenario)
