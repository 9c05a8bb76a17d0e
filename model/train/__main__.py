"""`python -m model.train --config FILE [--key.sub value …]`, alone or under `torchrun`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from model.command_line import one_line, sleep_while_waiting
from model.train.errors import TrainError
from model.train.settings import read_config


def main(arguments: Sequence[str]) -> int:
    """Run the command; on a mistake 1 with one line that says what to do."""
    try:
        config = read_config(arguments)
        sleep_while_waiting()
        # Torch comes in here, so that --help and typing mistakes answer at once.
        from model.train.loop import Interrupted, train
    except TrainError as error:
        return _refuse(error, everywhere=True)
    try:
        train(config)
    except Interrupted as stop:
        return _refuse(stop, everywhere=True, status=130)
    except KeyboardInterrupt:
        return _refuse(Interrupted("stopped before it began"), everywhere=True, status=130)
    except TrainError as error:
        return _refuse(error, everywhere=error.everywhere)
    except (ValueError, OSError) as error:
        return _refuse(error)
    return 0


def _refuse(error: Exception, *, everywhere: bool = False, status: int = 1) -> int:
    """Say it once for all processes where all of them found it."""
    if not everywhere or os.environ.get("RANK", "0") == "0":
        print(f"model.train: {one_line(error)}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
