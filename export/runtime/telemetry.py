"""ONNX Runtime, told not to report to its makers.

Since 1.32 its packages look up and call a host of Microsoft's from the moment of their import. A
server that handles strangers' clips calls nobody.
"""

from __future__ import annotations

import os

SWITCH = "ORT_DISABLE_TELEMETRY"


def keep_quiet() -> None:
    """Switch reporting off; call it before `onnxruntime` is imported, which looks only then.

    What the operator has set stays.
    """
    os.environ.setdefault(SWITCH, "1")
