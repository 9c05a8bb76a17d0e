"""Variables that Kubernetes sets for every service of a namespace, where they look like settings.

A service called `xclip` gives each pod `XCLIP_PORT=tcp://10.0.0.5:8000`, and more of the kind, as
Docker's links once did. Standard library only: the health check reads them too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

PREFIX = "XCLIP_"
_OF_A_SERVICE = re.compile(
    r"XCLIP_(\w+_)?"
    r"(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
_PORT = re.compile(r"XCLIP_(\w+_)?PORT")
_URL = re.compile(r"(tcp|udp|sctp)://")


def service_variables(environment: Mapping[str, str]) -> list[str]:
    """Name the variables that are no settings of ours but a service's address."""
    return sorted(
        name
        for name, value in environment.items()
        if _OF_A_SERVICE.fullmatch(name.upper())
        or (_PORT.fullmatch(name.upper()) and _URL.match(value))
    )
