"""What a worker cannot do, tried from inside one, measure by measure."""

from __future__ import annotations

import errno
import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from service.decode import DecodeCrashed, DecodePool
from service.decode.confine import _landlock_outcome, outcome_of
from service.decode.protocol import YES, Ready
from service.decode.syscalls import FilterUnavailable
from tests.service.decode.conftest import MISBEHAVING, Order, WithPool, told

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
    "owner": "EPERM",
    "signal number": "EPERM",
    "asynchronous": "EPERM",
    "lease": "EPERM",
    "lock": "EPERM",
    "duplicate": "EPERM",
    "more": "ValueError",
}


def test_every_measure_holds_here(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        assert set(pool.sandbox.values()) == {"yes"}
        assert {"seccomp", "landlock", "limits", "no_new_privs"} <= set(pool.sandbox)

    with_pool(scenario)


def test_what_is_refused(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        for what, answer in REFUSED.items():
            assert (await told(pool, order(f"attempt {what}"))).startswith(answer), what
        assert not pool.stats.ended

    with_pool(scenario)


def test_threads_can_be_started_and_processes_cannot(with_pool: WithPool, order: Order) -> None:
    """A decoder uses the cores that no other clip does."""

    async def scenario(pool: DecodePool) -> None:
        assert await told(pool, order("attempt thread")) == "succeeded"
        assert await told(pool, order("attempt fork")) == "EPERM"
        assert await told(pool, order("attempt process as a thread")) == "EPERM"

    with_pool(scenario)


def test_what_is_deadly(with_pool: WithPool, order: Order) -> None:
    async def scenario(pool: DecodePool) -> None:
        for what in DEADLY:
            with pytest.raises(DecodeCrashed):
                await pool.decode(order(f"attempt {what}"))
            assert pool.stats.ended == {"forbidden": 1}, what
            pool.stats.ended.clear()

    with_pool(scenario, options={"spares": 2})


def test_the_attempts_can_succeed(
    with_pool: WithPool, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without confinement each of them works: so it is confinement that stops them."""
    monkeypatch.setattr("service.decode.pool.compile_filter", lambda: "")

    async def scenario(pool: DecodePool) -> None:
        assert await told(pool, order("attempt memfd")) == "succeeded"
        assert await told(pool, order("attempt pair")) == "succeeded"
        assert await told(pool, order("attempt executable")) == "succeeded"

    with_pool(scenario)


def test_landlock_holds_by_itself(
    with_pool: WithPool,
    order: Order,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where libseccomp is missing: one warning, and files and ports are still out of reach."""

    def missing() -> None:
        raise FilterUnavailable("install it")

    monkeypatch.setattr("service.decode.pool.compile_filter", missing)

    async def scenario(pool: DecodePool) -> None:
        assert pool.sandbox["seccomp"].startswith("no")
        assert pool.sandbox["landlock"] == "yes"
        assert resource.prlimit(pool.pids[0], resource.RLIMIT_NPROC) == (0, 0)
        assert await told(pool, order("attempt open")) == "EACCES"
        assert await told(pool, order("attempt create")) == "EACCES"
        assert await told(pool, order("attempt list")) == "EACCES"
        assert await told(pool, order("attempt exec")) == "EACCES"

    with_pool(scenario, workers=2)
    assert caplog.text.count("confined less") == 1
    assert caplog.text.count("install it") == 1


def test_what_an_older_landlock_lacks_is_said() -> None:
    assert _landlock_outcome(6) == YES
    assert _landlock_outcome(5) == "yes, without signals: needs Linux 6.12"
    oldest = _landlock_outcome(1)
    assert oldest.startswith("yes, without moving files, truncating files, network ports")
    assert Ready(sandbox={"landlock": oldest, "seccomp": "no: missing"}).missing() == {
        "seccomp": "no: missing"
    }


# As on Linux before 6.12: what this kernel's Landlock knows of signals is left out.
OLDER = (
    sys.executable,
    "-P",
    "-B",
    "-c",
    "import runpy; from service.decode import confine; confine.LANDLOCK_SCOPE_SINCE = 99; "
    f"runpy.run_path({MISBEHAVING[-1]!r}, run_name='__main__')",
)


def test_no_signal_reaches_the_service_though_landlock_knows_none(
    with_pool: WithPool, order: Order
) -> None:
    """fcntl can have the kernel send any signal with the next packet: to this very process."""

    async def scenario(pool: DecodePool) -> None:
        assert await told(pool, order("attempt have a signal sent")) == "EPERM"
        await pool.decode(order("fine"))
        with pytest.raises(DecodeCrashed):
            await pool.decode(order("attempt signal"))

    with_pool(scenario, command=OLDER)


def test_the_upload_cannot_be_written(
    with_pool: WithPool, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its descriptor can only read, also where no filter forbids writing."""
    monkeypatch.setattr("service.decode.pool.compile_filter", lambda: "")
    upload = order("write")

    async def scenario(pool: DecodePool) -> None:
        with upload.open("r+b") as file:
            assert await told(pool, file.fileno()) == "EBADF"

    with_pool(scenario)
    assert upload.read_text() == "write"


def test_a_worker_loads_little_and_knows_less(
    with_pool: WithPool, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XCLIP_API_KEYS", "secret")

    async def scenario(pool: DecodePool) -> None:
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


def test_a_measure_that_fails_says_why_and_the_others_go_on() -> None:
    def missing() -> str:
        raise OSError(errno.ENOSYS, "not there")

    assert outcome_of(missing) == "no: OSError: [Errno 38] not there"
    assert outcome_of(lambda: YES) == YES


ELSEWHERE = """
import asyncio, json, os, sys
from pathlib import Path
from model.inputs import InputSpec
from service.decode import DecodePool, PoolOptions

async def main():
    options = PoolOptions(spares=0, max_decode_s=3600)
    pool = DecodePool(1, InputSpec.official(8, 112), options=options)
    await pool.start()
    clip = await pool.decode(Path(sys.argv[1]))
    print(json.dumps([os.getuid(), pool.sandbox, int(clip.frames.sum())]))
    await pool.stop()

asyncio.run(main())
"""


def elsewhere(before: tuple[str, ...], clip: Path) -> tuple[int, dict[str, str], int]:
    done = subprocess.run(
        [*before, sys.executable, "-c", ELSEWHERE, str(clip)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[3],
    )
    assert done.returncode == 0, done.stderr
    uid, sandbox, total = json.loads(done.stdout)
    return uid, sandbox, total


@pytest.fixture
def unshare() -> str:
    found = shutil.which("unshare")
    if not found or subprocess.run([found, "--user", "true"], capture_output=True).returncode:
        pytest.skip("no user namespace can be made here")
    return found


@pytest.mark.parametrize("user", [0, 1000])
def test_everything_holds_for_any_user_without_rights(
    unshare: str, videos: dict[str, Path], user: int
) -> None:
    """In a namespace of its own a process has no rights outside, and as 1000 none inside either."""
    before = (unshare, "--user", f"--map-user={user}", f"--map-group={user}")
    uid, sandbox, _ = elsewhere(before, videos["arm_wrestling"])
    assert uid == user
    assert set(sandbox.values()) == {YES}


def test_everything_holds_where_nothing_can_be_written(
    unshare: str, videos: dict[str, Path]
) -> None:
    """As in a container with a read-only root."""
    read_only = 'mount -o remount,bind,ro / && ! touch /written 2>/dev/null && exec "$@"'
    before = (unshare, "--user", "--map-root-user", "--mount", "sh", "-c", read_only, "sh")
    _, sandbox, total = elsewhere(before, videos["arm_wrestling"])
    assert set(sandbox.values()) == {YES}
    assert total == elsewhere((), videos["arm_wrestling"])[2]
