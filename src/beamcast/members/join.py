"""How a process finds its run: the join file in the run directory and the names of the run's own channels."""

from pathlib import Path

import msgspec

from beamcast.core.errors import UsageError
from beamcast.members.hardware import NodeShare
from beamcast.pva.endpoint import Endpoint

JOIN_FILE = "join.json"
SECRET_FILE = "secret"
# The users' files, where they came along with the run directory.
BASE = "base"


class Join(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every member needs before it can ask for more. Holds no secret, only where it lies.

    Ranks ask `far_name_server` and lease from `first_port` to `last_port`; members beside the controller, and users at
    the beamline, ask `name_server`, and lease from `served_ports`, which the nodes can reach. Nobody takes
    `promised_ports`: somebody is going to listen there.
    """

    run: str
    prefix: str
    name_server: str
    far_name_server: str
    first_port: int
    last_port: int
    served_ports: tuple[int, int]
    promised_ports: tuple[int, ...] = ()
    node_interfaces: tuple[str, ...]
    beamline_interfaces: tuple[str, ...]
    cluster_interfaces: tuple[str, ...]
    controller_silence_s: float
    # By pool. Absent: a pool of a run that binds nothing.
    hardware: dict[str, NodeShare] = {}

    @property
    def rpc_channel(self) -> str:
        """The channel on which the controller answers."""
        return f"{self.prefix}:rendezvous"

    @property
    def name_server_endpoint(self) -> Endpoint:
        """Where the run's name server listens, as seen from the beamline."""
        return Endpoint.parse(self.name_server)


def write_join(run_dir: Path, join: Join) -> None:
    """Write the join file so that a reader sees all of it or nothing."""
    partial = run_dir / f"{JOIN_FILE}.partial"
    partial.touch(mode=0o600)
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(join), indent=2))
    partial.replace(run_dir / JOIN_FILE)


def read_join(run_dir: Path) -> Join:
    """Read the join file; UsageError where there is none or it is not of this version."""
    path = run_dir / JOIN_FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Join)
    except FileNotFoundError as error:
        raise UsageError(f"{run_dir} is not the directory of a run: it has no {JOIN_FILE}") from error
    except msgspec.MsgspecError as error:
        raise UsageError(
            f"{path} can't be read: {error}", hint="was it written by another version?"
        ) from error
