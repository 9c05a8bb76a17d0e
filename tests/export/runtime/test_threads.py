"""A runtime with a share of the machine's processors binds itself to none of them."""

from __future__ import annotations

import os
import re
import threading
from pathlib import Path

import numpy as np
import pytest

from export.bundle import Bundle
from export.runtime import Runtime, RuntimeOptions, open_runtime

LOOKS = 200


def threads_now() -> set[str]:
    return {task.name for task in Path("/proc/self/task").iterdir()}


def bound_threads(runtime: Runtime, frames: np.ndarray, others: set[str]) -> set[str]:
    """Affinities of this process's threads, but for those of `others`, that differ from its own,
    seen while it computes.
    """
    own = set(os.sched_getaffinity(0))
    seen: set[str] = set()
    enough = threading.Event()

    def look() -> None:
        for _ in range(LOOKS):
            for task in Path("/proc/self/task").iterdir():
                if task.name in others:
                    continue
                try:
                    allowed = os.sched_getaffinity(int(task.name))
                    status = (task / "status").read_text()
                except (ProcessLookupError, FileNotFoundError):
                    continue
                if allowed != own:
                    found = re.search(r"Name:\s+(\S+)", status)
                    seen.add(f"{found[1] if found else task.name}: {sorted(allowed)}")
        enough.set()

    watcher = threading.Thread(target=look)
    watcher.start()
    while not enough.is_set():
        runtime.encode_video(frames)
    watcher.join()
    return seen


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="there is but one processor")
@pytest.mark.parametrize("name", ["onnxruntime-cpu", "openvino"])
def test_fewer_threads_than_processors_stay_free(name: str, tiny_bundle: Bundle) -> None:
    spec = tiny_bundle.manifest.inputs
    frames = np.zeros((4, spec.num_frames, spec.image_size, spec.image_size, 3), np.uint8)
    # OpenVINO keeps the threads of what was compiled before, which had all processors.
    others = threads_now()
    runtime = open_runtime(tiny_bundle, name, options=RuntimeOptions(threads=1))
    assert bound_threads(runtime, frames, others) == set()
    runtime.close()
