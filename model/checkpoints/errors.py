"""What can be wrong with a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from model.command_line import one_line

LISTED_IN_ONE_LINE = 12


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or that holds something else than it should.

    `problems` names each tensor that does not fit; the message holds them all, `brief` the first.
    """

    def __init__(self, message: str, problems: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.problems = tuple(problems)

    @classmethod
    def misfit(cls, where: str, problems: Sequence[str]) -> Self:
        """Return the error for tensors that do not fit the network."""
        return cls(f"{where} does not fit: {'; '.join(problems)}", problems)

    @property
    def brief(self) -> str:
        """The message on one line of bearable length, for a command line."""
        rest = len(self.problems) - LISTED_IN_ONE_LINE
        line = one_line(self)
        if rest <= 0:
            return line
        head = line.split(self.problems[0], 1)[0]
        return f"{head}{'; '.join(self.problems[:LISTED_IN_ONE_LINE])}; and {rest} more"
