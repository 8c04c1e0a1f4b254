"""Where a standalone process stands: its address and port, and where it looks for channels of others.

It serves on one address and port, answers TCP searches there, and neither hears nor sends UDP as a server. As a
client it asks the name servers it was given; without any it searches as the user's own EPICS settings say.
"""

import os
import random
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from beamcast.cli.outcome import INTERRUPTED
from beamcast.cli.stop_signals import on_ending_signals
from beamcast.cli.streams import end_children, leave, tell
from beamcast.members.names import only_name_server
from beamcast.pva.environment import (
    apply_environment,
    check_bound,
    free_at_once,
    free_port,
    server_environment,
)
from beamcast.pva.interfaces import resolve_address

FIRST_PORT = 20000
LAST_PORT = 29999
_LEFT: list[object] = []
# From the second request to end until a process ends that does not come to its end.
FORCED_S = 4.0


@dataclass(frozen=True, slots=True)
class Stand:
    """Address and port on which this process serves."""

    address: str
    port: int

    def check(self) -> None:
        """WorldError when the server that was started did not get its port."""
        check_bound([self.port])

    def leave(self, server: object) -> None:
        """This process is about to end: have its port free at once for whoever serves there next. The server is kept
        as it is until then: one that stops shuts its connections down, and the kernel keeps the port for a minute."""
        free_at_once(self.port)
        _LEFT.append(server)

    def how_to_read(self, channel: str) -> str:
        """A line that a user can run elsewhere."""
        return f"beamcast watch {channel} --server {self.address}:{self.port}"


def environment(address: str, port: int, name_servers: Sequence[str]) -> dict[str, str]:
    """The EPICS variables of a standalone process."""
    ours = server_environment(address=address, port=port, name_servers=only_name_server(name_servers))
    if name_servers:
        return ours
    theirs = {name: value for name, value in os.environ.items() if name.startswith("EPICS_PVA_")}
    several = only_name_server(theirs.get("EPICS_PVA_NAME_SERVERS", "").split())
    theirs["EPICS_PVA_NAME_SERVERS"] = " ".join(several)
    return {**{name: value for name, value in ours.items() if name.startswith("EPICS_PVAS_")}, **theirs}


def stand(*, interface: str, port: int | None, name_servers: Sequence[str] = ()) -> Stand:
    """Choose address and port and settle the EPICS environment, before anything of pvaccess is made."""
    address = resolve_address([interface])
    if port is None:
        start = random.randrange(LAST_PORT - FIRST_PORT + 1)
        port = free_port(FIRST_PORT, LAST_PORT, address, prefer=start)
    else:
        free_port(port, port, address)
    apply_environment(environment(address, port, name_servers))
    return Stand(address, port)


def on_stop_signals(stop: Callable[[], None]) -> None:
    """Have Ctrl-C, SIGTERM and a terminal that goes away call `stop`, on a thread of its own. Asked for a second time,
    the process ends within `FORCED_S` whatever it waits for; a third time, at once."""

    def asked(count: int) -> None:
        if count == 1:
            stop()
        elif count == 2:
            tell(f"ending within {FORCED_S + 1:g} s; once more to end at once")
            threading.Timer(FORCED_S, _end_now).start()
        else:
            _end_now()

    on_ending_signals(asked)


def _end_now() -> None:
    end_children()
    tell("ended without waiting: what was being written is not whole")
    leave(INTERRUPTED)
