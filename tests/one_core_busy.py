"""Keep one processor busy for as long as the program that started this lives.

`make test-busy` runs the suite beside it: a test that falls there depends on how fast the machine
is. It ends with its parent, however that ends.
"""

from __future__ import annotations

import os

if __name__ == "__main__":
    parent = os.getppid()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    while os.getppid() == parent:
        pass
