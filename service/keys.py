"""Create an API key: `python -m service.keys NAME [RATE]`.

The key goes to standard error, the line that lets it in to standard output, so that
`python -m service.keys alice >> keys` adds it to the file that XCLIP_API_KEYS_FILE names.
"""

from __future__ import annotations

import sys

from model.command_line import Parser, complaint
from service.access.api_keys import create_key, key_line

PROGRAM = "python -m service.keys"


def main(arguments: list[str] | None = None) -> int:
    """Create a key and print it with its line of the key file."""
    parser = Parser(
        prog=PROGRAM,
        description="Create an API key. It is printed once, on standard error; the line for the "
        "file of XCLIP_API_KEYS_FILE goes to standard output.",
    )
    parser.add_argument("name", metavar="NAME", help="who gets it: letters, digits, . _ or -")
    parser.add_argument("rate", metavar="RATE", nargs="?", help="its own limit, like 60/minute")
    given = parser.parse_args(arguments)
    key = create_key()
    try:
        line = key_line(key, given.name, given.rate)
    except ValueError as error:
        print(complaint(PROGRAM, error), file=sys.stderr)
        return 2
    print(f"the key, for its user; it is shown only now:  {key}", file=sys.stderr)
    print("the line for XCLIP_API_KEYS_FILE:", file=sys.stderr)
    print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
