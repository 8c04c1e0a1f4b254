"""Host names in addresses: looked up with a deadline, to IPv4, which is all that pvAccess speaks here.

What a pvAccess search answers with is an address in numbers, so a name that somebody wrote has to become one first.
"""

import socket
import threading

from beamcast.core.addresses import is_ipv4
from beamcast.core.errors import WorldError
from beamcast.pva.endpoint import Endpoint

# A name service that is away answers after half a minute or never.
LOOK_UP_S = 5.0


def numeric(host: str, *, timeout_s: float = LOOK_UP_S) -> str:
    """The IPv4 address of a host. WorldError where it has none, or nobody knows in time."""
    if is_ipv4(host):
        return host
    found: list[str] = []
    problem: list[str] = []

    def look_up() -> None:
        try:
            answers = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
            found.extend(str(answer[4][0]) for answer in answers)
        except (OSError, UnicodeError) as error:
            problem.append(getattr(error, "strerror", None) or str(error))

    # The system's look-up has no deadline of its own, and can't be called off.
    thread = threading.Thread(target=look_up, name="look-up", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if found:
        return found[0]
    why = problem[0] if problem else f"no answer within {timeout_s:g} s"
    raise WorldError(
        f"the host name {host!r} has no IPv4 address here: {why}",
        hint="See that it is spelt right, or write the address in numbers",
    )


def resolved(endpoint: Endpoint, *, timeout_s: float = LOOK_UP_S) -> Endpoint:
    """The endpoint with its host in numbers; WorldError as `numeric`."""
    return Endpoint(numeric(endpoint.host, timeout_s=timeout_s), endpoint.port)
