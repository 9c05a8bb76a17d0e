"""Messages between parent and worker: one JSON object a packet, checked on arrival.

A worker that a hostile file has taken over may answer anything, so the parent takes nothing from
it on trust: sizes, shapes, numbers and names all have bounds here, and unknown fields are refused.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from model.inputs.clip import Sentence, VideoInfo
from model.inputs.limits import VideoLimits
from model.inputs.sampling import FrameChoice
from model.inputs.spec import InputSpec
from model.inputs.work import Work
from service.decode.rates import MOST_KINDS

# A packet larger than this is no answer. Room for the times of some two thousand frames.
MAX_MESSAGE_BYTES = 64 * 1024
MAX_FRAMES_PER_JOB = 2000
# More threads gain little: eight key frames are eight pieces of work.
MOST_THREADS = 4

# How a measure of confinement came out that could be taken.
YES = "yes"

Crops = Literal[1, 3]
Count = Annotated[int, Field(gt=0, le=2**40)]
Ticket = Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_]{1,64}$")]
Rate = Annotated[float, Field(gt=0)]
# A number, or the name of a codec or container, in the sentence of a refusal. Seconds may be any
# that the client has sent.
Fact = (
    Annotated[int, Field(ge=-(2**40), le=2**40)]
    | float
    | Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,32}$")]
)


class Message(BaseModel):
    """Strict: nothing is converted, nothing is ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    def to_bytes(self) -> bytes:
        """Encode the message as it goes over the socket."""
        return self.model_dump_json().encode()


class Confinement(Message):
    """Limits of a worker from the moment it is ready.

    `memory_bytes` may be allocated on top of what the started worker has. `seccomp_program` is
    the compiled filter in base64; empty where the parent could make none, `seccomp_missing` says
    why.
    """

    memory_bytes: Count
    shared_bytes: Count
    open_files: Count
    libav_alloc_bytes: Count
    seccomp_program: str
    seccomp_missing: str = ""


class Setup(Message):
    """The first message to a worker: everything that holds for all its jobs."""

    spec: InputSpec
    limits: VideoLimits
    confinement: Confinement


class Job(Message):
    """One clip. Two descriptors come along: the upload (read-only) and memory for the frames.

    `ticket` is drawn for this job and comes back with its answer: an answer that comes
    twice, late or ahead of time is then no answer to somebody else's clip. Up to `threads` threads
    decode it. By `frame_rule` auto the exact rule holds where it takes no more than `budget_s` of
    processor time by the learned `rates`. One that takes more than `at_most_s` by them is put off.
    """

    kind: Literal["clip"] = "clip"
    ticket: Ticket
    views: Annotated[int, Field(ge=1)]
    crops: Crops
    start: float | None
    end: float | None
    frame_rule: FrameChoice
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)] = 1
    budget_s: Rate
    at_most_s: Rate | None = None
    rates: Annotated[dict[Name, Rate], Field(max_length=MOST_KINDS)]


class Ready(Message):
    """A worker's first message: how each measure of confinement came out, "yes" or why not."""

    kind: Literal["ready"] = "ready"
    sandbox: dict[Name, Sentence]

    def missing(self) -> dict[str, str]:
        """Return the measures that could not be taken, with the reasons."""
        return {name: how for name, how in self.sandbox.items() if not how.startswith(YES)}


class Decoded(Message):
    """The clip was decoded: its frames are in the shared memory. `work` is what it took."""

    kind: Literal["decoded"] = "decoded"
    ticket: Ticket
    shape: list[int]
    info: VideoInfo
    work: Work | None


class Refused(Message):
    """The video cannot be used: the class of the VideoError, and the facts of its sentence."""

    kind: Literal["refused"] = "refused"
    ticket: Ticket
    error: Name
    facts: Annotated[dict[Name, Fact], Field(max_length=8)]


class PutOff(Message):
    """The clip takes longer than `at_most_s`, and none of it was decoded: its turn comes later."""

    kind: Literal["put_off"] = "put_off"
    ticket: Ticket


class Cancel(Message):
    """Nobody wants the job any more. It may come when the job is done, and then means nothing."""

    kind: Literal["cancel"] = "cancel"
    ticket: Ticket


class Cancelled(Message):
    """The job was ended before it was done, because nobody wanted it."""

    kind: Literal["cancelled"] = "cancelled"
    ticket: Ticket


class Failed(Message):
    """An error of this program while decoding; `what` is for the log, and the worker is ended."""

    kind: Literal["failed"] = "failed"
    what: Annotated[str, Field(max_length=4000)]


Answer = Decoded | Refused | PutOff | Cancelled | Failed
_ANSWER: TypeAdapter[Any] = TypeAdapter(Annotated[Answer, Field(discriminator="kind")])


def parse_answer(packet: bytes) -> Answer:
    """Parse the answer to a job; raise ValueError for anything that is none."""
    answer: Answer = _ANSWER.validate_json(packet)
    return answer
