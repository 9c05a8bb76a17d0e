"""`xclip-serve VERB …`: one command for everything that is done here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module

TRAIN = "cpu,export,train"
OURS = {"model", "export", "service", "xclip_serve"}


@dataclass(frozen=True)
class Verb:
    """A program: its `main` takes the arguments and returns an exit status.

    Attributes:
        module: Loaded when the verb is used, so that no verb waits for another's libraries.
        summary: A line of the help.
        extra: Of pip; brings what the program needs.
        first: Arguments that come before the caller's.
    """

    module: str
    summary: str
    extra: str = "cpu"
    first: tuple[str, ...] = ()


VERBS = {
    "serve": Verb("xclip_serve.verbs.serve", "the server and its page"),
    "classify": Verb("xclip_serve.verbs.classify", "rank labels for a clip"),
    "timeline": Verb("xclip_serve.verbs.timeline", "say when in a video each label holds"),
    "batch": Verb("xclip_serve.verbs.batch", "name what thousands of clips show, as a table"),
    "calibrate": Verb("xclip_serve.verbs.calibrate", "measure how sure answers are, on your clips"),
    "export": Verb("export.cli", "a checkpoint to a bundle", "export"),
    "inspect": Verb("export.cli", "what is inside a bundle", "cpu", ("inspect",)),
    "verify": Verb("export.cli", "compare a bundle with its checkpoint", "export", ("verify",)),
    "train": Verb("xclip_serve.verbs.train", "from a folder of clips to a bundle", TRAIN),
    "evaluate": Verb("model.evaluate.__main__", "accuracy by the paper's protocols", "train"),
    "compare": Verb(
        "model.evaluate.__main__", "several networks on your clips", "train", ("compare",)
    ),
    "convert": Verb("model.convert", "a published checkpoint to ours", "model"),
    "data": Verb("model.data.__main__", "check, make and pack lists of clips", "train"),
    "keys": Verb("service.keys", "create an API key"),
}

# What only some uses of a verb need.
EXTRAS = {"pyarrow": "parquet", "onnx": "export", "onnxscript": "export", "onnx_ir": "export"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a verb; 2 with one line where there is none of that name."""
    name, *rest = (sys.argv[1:] if arguments is None else list(arguments)) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(_help())
        return 0
    if name == "--version":
        from importlib.metadata import version

        print(f"xclip-serve {version('xclip-serve')}")
        return 0
    if name not in VERBS:
        print(f"xclip-serve: there is no {name!r}; there are {', '.join(VERBS)}", file=sys.stderr)
        return 2
    verb = VERBS[name]
    try:
        status: int = import_module(verb.module).main([*verb.first, *rest])
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing in OURS:
            raise
        extra = EXTRAS.get(missing, verb.extra)
        if extra in verb.extra.split(","):
            extra = verb.extra
        print(
            f"xclip-serve {name}: the package {missing} is not installed; it comes with "
            f"pip install 'xclip-serve[{extra}]' (in a checkout: pip install "
            f"'.[{extra}]')",
            file=sys.stderr,
        )
        return 2
    return status


def _help() -> str:
    verbs = "\n".join(f"  {name:9} {verb.summary}" for name, verb in VERBS.items())
    return (
        "usage: xclip-serve VERB …\n\nOpen-vocabulary video classification.\n\n"
        f"{verbs}\n\nxclip-serve VERB --help says what a verb takes."
    )


if __name__ == "__main__":
    sys.exit(main())
