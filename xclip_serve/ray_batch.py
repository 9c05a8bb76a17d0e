"""`batch --engine ray`: paths go to the actors of a Ray cluster, parts of the table come from them.

Neither frames nor rows pass through Ray: an actor reads a clip where it lies, decodes it in its own
confined processes, and writes the part itself, under a name that its clips give. A task that is run
again, after its actor died, writes the same part; a second run asks about what is in no part.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xclip_serve.asked_rows import RowQuestion
from xclip_serve.classifier import Classifier
from xclip_serve.errors import ClassifyError, cannot_open
from xclip_serve.folders import open_folder
from xclip_serve.parts import part_of, write_part
from xclip_serve.table_question import IN_PARTS, TableQuestion
from xclip_serve.tables import CODE, KEY, Row

if TYPE_CHECKING:
    import pyarrow as pa

ADDRESS = "RAY_ADDRESS"
MOST_CLIPS_IN_PART = 128
PARTS_PER_ACTOR = 4  # or more: whoever is done first takes from the others
CLIP, PROBLEM, DETAIL = "clip", "problem", "detail"


@dataclass(frozen=True)
class Work:
    """What an actor needs to know.

    Attributes:
        table: Path or address of the folder of parts.
        rows: What is asked about each clip.
        question: The same as the table keeps it.
        model: Bundle, None for the demo.
        precision: Of the bundle.
        cores: Of each actor: its decoding processes, and the threads of its network.
        start: Folder that relative paths start from.
        witness: A clip that is on the machine of who asks, and so must be on each.
    """

    table: str
    rows: RowQuestion
    question: Mapping[str, Any]
    model: Path | None
    precision: str | None
    cores: int
    start: str
    witness: str | None


def spread(work: Work, clips: Sequence[str]) -> Iterator[Row]:
    """Have a cluster write the rows of clips.

    Args:
        work: What is asked, and where the parts go.
        clips: Paths that every machine can read, and addresses.

    Yields:
        Path and code of each row once it is written.

    Raises:
        ClassifyError: No other clip would be answered either.
        ValueError: The question is none, the bundle cannot be opened.
        RuntimeError: Ray is not installed, or the cluster fails.
    """
    _prepare()
    try:
        import ray.exceptions
    except ImportError:
        raise RuntimeError("Ray is not installed: pip install 'xclip-serve[ray]'") from None
    _connect()
    try:
        for row in _tasks(work, clips).iter_rows():
            if row[PROBLEM] is not None:
                raise _problem(row[PROBLEM], row[DETAIL])
            yield row
    except ray.exceptions.RayError as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise RuntimeError(f"the cluster fails: {said[-1]}") from error


def _prepare() -> None:
    """Say what Ray reads once, when it is imported: no reports of use, no door to this machine."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not os.environ.get(ADDRESS):
        # By this name Ray keeps a cluster of one machine, on Windows and macOS, from all networks:
        # its servers listen on 127.0.0.1. `_node_ip_address` does not, which it resolves again.
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")


def _connect() -> None:
    """Join the cluster of RAY_ADDRESS, or make one of this machine."""
    import ray.data

    if not ray.is_initialized():
        ray.init(
            address=None if os.environ.get(ADDRESS) else "local",  # never one that happens to run
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.WARNING,
        )
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    ray.data.DataContext.get_current().enable_progress_bars = False


def _tasks(work: Work, clips: Sequence[str]) -> Any:
    """Return the dataset of rows; reading it does the work."""
    import pyarrow as pa
    import ray.data

    actors = _actors(work.cores)
    size = min(MOST_CLIPS_IN_PART, math.ceil(len(clips) / (actors * PARTS_PER_ACTOR)))
    names = [os.fsencode(clip) for clip in clips]  # any bytes are a name
    blocks = [pa.table({CLIP: names[i : i + size]}) for i in range(0, len(names), size)]
    return ray.data.from_arrow(blocks).map_batches(
        PartWriter,
        fn_constructor_args=(work,),
        batch_size=None,  # a block is a part
        batch_format="pyarrow",
        num_cpus=work.cores,
        compute=ray.data.ActorPoolStrategy(min_size=1, max_size=min(actors, len(blocks))),
    )


def _actors(cores: int) -> int:
    """Return how many actors the machines hold. ValueError where none of them is large enough."""
    import ray

    sizes = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    largest = max(sizes, default=0)
    if 0 < largest < cores:  # none at all: they start when they are asked for
        raise ValueError(f"--jobs {cores}: the largest machine of the cluster has {largest} cores")
    return max(1, sum(size // cores for size in sizes))


def _problem(code: str, detail: str) -> Exception:
    return ClassifyError(code, detail) if code else ValueError(detail)


class PartWriter:
    """An actor: a classifier that turns each batch of clips into a part.

    What ends the whole run is told as a row, so that Ray does not try again what cannot work.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._classifier: Classifier | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Write the part; return path and code of its rows, and the problem if there is one."""
        clips = [os.fsdecode(name) for name in batch[CLIP].to_pylist()]
        rows: list[Row] = []
        problem: tuple[str, str] | None = None
        try:
            for row in self._rows(clips):
                rows.append(row)  # noqa: PERF402 - those before a problem are kept
        except ClassifyError as error:
            problem = error.code, error.detail
        except OSError as error:
            problem = "", cannot_open(error).detail
        except (ValueError, RuntimeError) as error:
            problem = "", str(error)
        if rows:
            rows.sort(key=lambda row: str(row[KEY]))
            name = part_of(row[KEY] for row in rows)
            write_part(self._folder, name, rows, self._work.rows.layout.columns)
        return _told(rows, problem)

    def _rows(self, clips: Sequence[str]) -> Iterator[Row]:
        if self._classifier is None:
            self._begin()
        assert self._classifier is not None
        yield from self._work.rows.rows(self._classifier, clips, self._question.check_bundle)

    def _begin(self) -> None:
        os.chdir(self._work.start)
        self._folder = open_folder(self._work.table)
        try:
            self._folder.read(IN_PARTS)
        except FileNotFoundError:
            where = self._work.table
            raise ValueError(f"{where} is not on every machine; use one that they share") from None
        witness = self._work.witness
        if witness is not None and not os.path.exists(witness):
            raise ValueError(f"{witness} is not on every machine; use paths that all of them share")
        self._question = TableQuestion(self._folder, IN_PARTS, self._work.question, begun=True)
        settings: dict[str, Any] = {"decode_workers": self._work.cores, "threads": self._work.cores}
        if self._work.precision is not None:
            settings["precision"] = self._work.precision
        self._classifier = Classifier(self._work.model, **settings)


def _told(rows: Sequence[Row], problem: tuple[str, str] | None) -> pa.Table:
    import pyarrow as pa

    told = [{KEY: row[KEY], CODE: row[CODE]} for row in rows]
    if problem is not None:
        told.append(dict(zip((PROBLEM, DETAIL), problem, strict=True)))
    kinds = [(name, pa.string()) for name in (KEY, CODE, PROBLEM, DETAIL)]
    return pa.Table.from_pylist(told, pa.schema(kinds))
