"""Options that follow from each other, set together where a list of clips is small."""

from __future__ import annotations

from model.train.config import TrainConfig


def fit_batch(config: TrainConfig, clips: int, processes: int) -> tuple[TrainConfig, str | None]:
    """Fit `batch.size` to the clips there are, and `batch.per_process` to the size.

    Returns:
        The configuration and, where it changed, a line that says so. Where not even one clip for
        each process is there, it stays as it is.
    """
    asked = config.batch
    size, micro = asked.size, asked.per_process
    if clips < processes:
        return config, None
    if size > clips:
        each = min(micro or clips // processes, clips // processes)
        size = clips // (each * processes) * (each * processes)
    if micro is not None and size % processes == 0:
        share = size // processes
        micro = next(m for m in range(min(micro, share), 0, -1) if share % m == 0)
    if (size, micro) == (asked.size, asked.per_process):
        return config, None
    batch = asked.model_copy(update={"size": size, "per_process": micro})
    changes = [
        f"{key} {now} instead of {before}"
        for key, before, now in (
            ("batch.size", asked.size, size),
            ("batch.per_process", asked.per_process, micro),
        )
        if before != now
    ]
    line = f"{clips} clips to train on: {', '.join(changes)}"
    return config.model_copy(update={"batch": batch}), line
