"""The options that every verb has which asks about clips, and what comes of them."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from model.command_line import one_line, whole
from xclip_serve.errors import NOT_OF_THE_CLIP as NOT_OF_THE_CLIP
from xclip_serve.errors import ClassifyError, cannot_open
from xclip_serve.labels import Labels, read_label_file
from xclip_serve.question import Options

if TYPE_CHECKING:
    from xclip_serve.classifier import Classifier
    from xclip_serve.client import Client

API_KEY = "XCLIP_API_KEY"
DONE, MISTAKE, SOME_FAILED, INTERRUPTED = 0, 2, 3, 130  # exit statuses
# What the API says, and how the command says it.
OPTIONS = {
    "window_s": "--window",
    "stride_s": "--stride",
    "scores=sigmoid": "--sigmoid",
    "ask with scores=softmax": "leave --sigmoid out",
    "top_k": "--top-k",
    "frame_rule": "--frame-rule",
    "label_set": "--label-set",
    "open_set": "--open-set",
}
# Not in the middle of a path or in a label that is quoted.
_FIELD = re.compile(rf"(?<![\w/.'\"])({'|'.join(OPTIONS)})(?![\w/'\"]|\.\w)")


def add_question(parser: argparse.ArgumentParser) -> None:
    """Add what is asked, and who is asked."""
    add = parser.add_argument
    add("--labels", type=Path, metavar="FILE", help="labels, one a line, or a CSV with name, text")
    add("--label", action="append", default=[], metavar="TEXT", help="one more label; repeatable")
    add("--label-set", metavar="NAME", help="a list stored in the bundle, instead of labels")
    add(
        "--template",
        action="append",
        metavar="TEXT",
        help="text around a label, with one {}; repeatable: the mean of several",
    )
    add("--start", type=float, metavar="S", help="second to begin at")
    add("--end", type=float, metavar="S", help="second to end at")
    add("--frame-rule", help="which frames are taken: exact, keyframes or auto")
    add("--sigmoid", action="store_true", help="score each label for itself: several may be true")
    add(
        "--open-set",
        action="store_const",
        const=True,
        help="also say how likely none of the labels is",
    )
    add("--model", type=Path, metavar="BUNDLE", help="bundle to ask (default: the small demo)")
    add(
        "--precision",
        help="of the bundle: fp32, fp16, bf16, int8, or auto: the fastest (default: the bundle's)",
    )
    add(
        "--server",
        metavar="URL",
        help=f"ask this server instead of this process; its key, if it asks for one: {API_KEY}",
    )


def add_clip_question(parser: argparse.ArgumentParser) -> None:
    """Add what is asked about a whole clip alone."""
    add = parser.add_argument
    add("--views", type=whole(1), metavar="N", help="temporal views to average (1)")
    add(
        "--coverage",
        type=float,
        metavar="P",
        help="also give the labels that hold the true one with this probability, such as 0.9",
    )


def labels_of(given: argparse.Namespace) -> Labels:
    """Return all labels that the command line names. ValueError and OSError as the file's."""
    labels = Labels.of([*getattr(given, "texts", []), *given.label])
    if given.labels is not None:
        labels += read_label_file(given.labels)
    if labels and given.label_set is not None:
        raise ValueError("--label-set stands for labels; give one or the other")
    if not labels and given.label_set is None:
        raise ValueError("there is no label; give --labels FILE, --label TEXT or --label-set NAME")
    return labels


def options_of(given: argparse.Namespace) -> Options:
    """Return the optional fields of the question."""
    options = {name: getattr(given, name, None) for name in Options.__annotations__}
    # `--scores` of `batch` says which columns there are.
    return cast(Options, {**options, "scores": "sigmoid" if given.sigmoid else None})


@contextmanager
def asked(given: argparse.Namespace, **settings: Any) -> Iterator[Classifier | Client]:
    """Open who is asked: the server, or a classifier in this process.

    Raises:
        ValueError: Both are named, or the bundle cannot be opened.
        RuntimeError: The network cannot be run here.
    """
    if given.server is not None:
        if given.model is not None or given.precision is not None:
            raise ValueError("--server has its own model; leave --model and --precision out")
        from xclip_serve.client import Client

        with Client(given.server, api_key=os.environ.get(API_KEY)) as client:
            yield client
        return
    from xclip_serve.classifier import Classifier

    if given.precision is not None:
        settings["precision"] = given.precision
    with Classifier(given.model, **settings) as classifier:
        yield classifier


@dataclass
class Failure:
    """The exit status of a question that got no answer; None where it got one."""

    status: int | None = None


@contextmanager
def failures_told(
    program: str, of_the_question: Collection[str] = NOT_OF_THE_CLIP
) -> Iterator[Failure]:
    """Say in one line why there is no answer, and know the exit status.

    Args:
        program: As the line begins.
        of_the_question: Codes that are a mistake in the question; others are the clip's.
    """
    failure = Failure()
    said: object
    try:
        yield failure
        return
    except ClassifyError as error:
        said = in_options(error.detail)
        failure.status = MISTAKE if error.code in of_the_question else SOME_FAILED
    except OSError as error:
        said, failure.status = cannot_open(error), MISTAKE
    except (ValueError, RuntimeError) as error:
        said, failure.status = error, MISTAKE
    except KeyboardInterrupt:
        failure.status = INTERRUPTED
        return
    print(f"{program}: {one_line(said)}", file=sys.stderr)


def in_options(detail: str) -> str:
    """Name the options of the command where a problem names the fields of the API."""
    return _FIELD.sub(lambda field: OPTIONS[field[1]], detail)
