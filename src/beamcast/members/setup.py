"""The first steps of every member process: parent, signals, log, environment, server port."""

import argparse
import contextlib
import logging
import os
import random
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from beamcast.core.errors import BeamcastError, Terminated, WorldError
from beamcast.core.last_words import MARK
from beamcast.members.host.exits import EXIT_DONE, EXIT_FAILED, EXIT_UNWELCOME, FAREWELL, PULSE_VARIABLE
from beamcast.members.join import Join, read_join
from beamcast.members.member import Member
from beamcast.members.parent import die_with_parent
from beamcast.pools.printing import print_at_once
from beamcast.pva.environment import (
    apply_environment,
    check_bound,
    free_port,
    server_environment,
    user_settings,
)
from beamcast.pva.interfaces import resolve_address
from beamcast.pva.messages import MemberId, Whereabouts

# How often this process has begun again, to be told to the next attempt.
_TRIES = "BEAMCAST_PORT_TRIES"
MAX_TRIES = 5


class PortTaken(WorldError):
    """Somebody was quicker: another port may be free. pvaccess can't be asked for one, its server listens elsewhere by
    now: the process begins once more."""


@dataclass(frozen=True, slots=True)
class Ground:
    """Where a member stands: its run and the address and port that are its own."""

    run_dir: Path
    join: Join
    address: str
    port: int

    def whereabouts(self) -> Whereabouts:
        """Host, process, address and port, for the registration."""
        return Whereabouts(host=socket.gethostname(), pid=os.getpid(), address=self.address, port=self.port)

    def check_port(self) -> None:
        """PortTaken when the server that was started did not get its port; to be asked before the registration."""
        try:
            check_bound([self.port])
        except WorldError as error:
            raise PortTaken(error.message, hint=error.hint) from error


def member_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the options that every member has."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--run-dir", type=Path, required=True)
    parser.add_argument("--parent", type=int, help="end when this process ends")
    parser.add_argument("--generation", type=int, default=0)
    return parser


def prepare(
    arguments: argparse.Namespace,
    interfaces: Callable[[Join], Sequence[str]],
    *,
    keep_client_environment: bool = False,
    far: bool = False,
) -> Ground:
    """Settle everything that has to be settled before pvaccess is imported. Where that can't be, the process ends, and
    its last line says why.

    `keep_client_environment`: keep the EPICS search settings that this process was started with, next to the run's
    name server; for a member that looks for the detector where the beamline's own clients find it. `far`: this
    process runs on a node.
    """
    if arguments.parent is not None:
        die_with_parent(arguments.parent)
    print_at_once()
    signal.signal(signal.SIGTERM, _terminate)
    logging.basicConfig(
        level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        return _settled(arguments, interfaces, keep_client_environment=keep_client_environment, far=far)
    except BeamcastError as error:
        print(f"{MARK}{error}", file=sys.stderr)
        leave(EXIT_FAILED)
        raise  # never reached: the process has ended


def _settled(
    arguments: argparse.Namespace,
    interfaces: Callable[[Join], Sequence[str]],
    *,
    keep_client_environment: bool,
    far: bool,
) -> Ground:
    join = read_join(arguments.run_dir)
    address = resolve_address(interfaces(join))
    first, last = (join.first_port, join.last_port) if far else join.served_ports
    port = free_port(
        first, last, address, prefer=random.randrange(last - first + 1), taken=join.promised_ports
    )
    name_server = join.far_name_server if far else join.name_server
    environment = server_environment(address=address, port=port, name_servers=[name_server])
    if keep_client_environment:
        environment |= _client_settings(environment)
    apply_environment(environment)
    return Ground(run_dir=arguments.run_dir, join=join, address=address, port=port)


def _client_settings(ours: dict[str, str]) -> dict[str, str]:
    """The user's own pvAccess client settings, with our name server added to theirs."""
    # Name servers of ours bring asyncio: not in the ranks, which are many.
    from beamcast.members.names import only_name_server

    theirs = user_settings()
    servers = f"{ours['EPICS_PVA_NAME_SERVERS']} {theirs.get('EPICS_PVA_NAME_SERVERS', '')}".split()
    searching = {"EPICS_PVA_AUTO_ADDR_LIST": "YES", "EPICS_PVA_BROADCAST_PORT": "5076"}
    only = only_name_server(list(dict.fromkeys(servers)))
    return {**searching, **theirs, "EPICS_PVA_NAME_SERVERS": " ".join(only)}


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated(128 + number)


def run_member(ground: Ground, identity: MemberId, body: Callable[[Member], int]) -> int:
    """Make the member, run `body`, and turn what it raises into an exit status and a report to the controller."""
    member = Member(ground.join, ground.run_dir, identity)
    try:
        return body(member)
    except PortTaken as error:
        tries = int(os.environ.get(_TRIES, "0"))
        if tries == MAX_TRIES:
            print(f"{MARK}{error}", file=sys.stderr)
            return EXIT_FAILED
        print(f"{identity}: {error}; trying another one", file=sys.stderr, flush=True)
        os.environ[_TRIES] = str(tries + 1)
        os.execv(sys.executable, again(sys.orig_argv, generation=identity.generation))
    except BeamcastError as error:
        print(f"{MARK}{error}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(note, file=sys.stderr)
        return EXIT_UNWELCOME if member.welcome is None or member.state == "failed" else EXIT_FAILED
    except Exception:  # noqa: BLE001 - the boundary of the process
        traceback.print_exc()
        return EXIT_FAILED


def again(command: Sequence[str], *, generation: int) -> list[str]:
    """The command of this process once more: it knows its generation by now and need not wait for a cue."""
    words = list(command)
    for option in ("--understudy", "--generation"):
        while option in words:
            at = words.index(option)
            del words[at : at + 2]
        words = [word for word in words if not word.startswith(f"{option}=")]
    return [*words, f"--generation={generation}"]


def leave(status: int) -> None:
    """End the process now. pvaccess keeps C++ threads whose teardown at interpreter exit may crash or hang."""
    sys.stdout.flush()
    sys.stderr.flush()
    logging.shutdown()
    pulse = os.environ.get(PULSE_VARIABLE)
    if status == EXIT_DONE and pulse is not None:
        with contextlib.suppress(OSError):
            os.write(int(pulse), FAREWELL)
    os._exit(status)
