"""`xclip-serve serve [MODEL]`: make a bundle of MODEL if it is none, once, and serve it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from model.command_line import one_line
from xclip_serve.verbs.asking import DONE, INTERRUPTED, MISTAKE

PROGRAM = "xclip-serve serve"
HELP = """\
usage: xclip-serve serve [MODEL] [--flag value …]

Start the server and its page. MODEL is a bundle, or anything `xclip-serve export` takes: that is
made into a bundle once, in the cache folder (XCLIP_CACHE, or ~/.cache/xclip-serve), and found
there the next time. Without MODEL: the small demo. The flags are those of the server:
"""


def main(arguments: Sequence[str]) -> int:
    """Run the server until it is told to stop."""
    given = list(arguments)
    if "--help" in given or "-h" in given:
        print(HELP)
    elif given and not given[0].startswith("-"):
        from xclip_serve.made_bundles import ExportFailed, bundle_of

        try:
            given[:1] = ["--bundle", str(bundle_of(given[0], _cache(given)))]
        except ExportFailed as failure:
            return failure.status  # the export has said what is wrong
        except (ValueError, OSError) as error:
            print(f"{PROGRAM}: {one_line(error)}", file=sys.stderr)
            return MISTAKE
        except KeyboardInterrupt:
            return INTERRUPTED
    import service.__main__

    return service.__main__.main(given) or DONE


def _cache(arguments: Sequence[str]) -> Path | None:
    """Return the folder that the flag of the server names."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--cache", type=Path)
    try:
        known, _ = parser.parse_known_args(arguments)
    except argparse.ArgumentError:  # the server will say so
        return None
    cache: Path | None = known.cache
    return cache
