"""Two networks with no route between them, and the hosts that stand between.

    detector ──beamline── mirror ──transit── gateway ──cluster── node1, node2
      .1                  .10 .10            .254 .254           .1     .2

Addresses are 10.121.0.x (beamline), 10.122.0.x (transit), 10.123.0.x (cluster). The gateway routes between transit and
cluster, until told not to; nobody routes to the beamline. The cables end in a namespace of their own, so this machine
has no interface in any of the networks: what two hosts exchange goes through the hosts between them or not at all.
"""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from networks.namespace import Namespace

BEAMLINE, TRANSIT, CLUSTER = "10.121.0", "10.122.0", "10.123.0"

# Host: its interface and address in each network that it belongs to.
HOSTS: dict[str, dict[str, str]] = {
    "detector": {"eth0": f"{BEAMLINE}.1"},
    "mirror": {"eth0": f"{BEAMLINE}.10", "eth1": f"{TRANSIT}.10"},
    "gateway": {"eth0": f"{TRANSIT}.254", "eth1": f"{CLUSTER}.254"},
    "node1": {"eth0": f"{CLUSTER}.1"},
    "node2": {"eth0": f"{CLUSTER}.2"},
}


class TwoNetworks:
    """The five hosts as namespaces; a context manager that leaves nothing behind.

    `mirror` has the interface eth0 in the beamline's network and eth1 towards the cluster.
    """

    def __init__(self, folder: Path) -> None:
        hosts_file = folder / "hosts"
        self._hosts_file = hosts_file
        self._switch = Namespace("nets", "switch", hosts_file=hosts_file)
        self.detector = Namespace("nets", "detector", hosts_file=hosts_file)
        self.mirror = Namespace("nets", "mirror", hosts_file=hosts_file)
        self.gateway = Namespace("nets", "gateway", hosts_file=hosts_file)
        self.node1 = Namespace("nets", "node1", hosts_file=hosts_file)
        self.node2 = Namespace("nets", "node2", hosts_file=hosts_file)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._hosts_file.write_text(_hosts_text())
        with ExitStack() as stack:
            stack.enter_context(self._switch)
            for subnet in (BEAMLINE, TRANSIT, CLUSTER):
                self._switch.ip("link", "add", _bridge(subnet), "type", "bridge")
                self._switch.ip("link", "set", _bridge(subnet), "up")
            for host in self.hosts:
                stack.enter_context(host)
                self._cable(host)
            self._make_routes()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def hosts(self) -> tuple[Namespace, ...]:
        """All five."""
        return (self.detector, self.mirror, self.gateway, self.node1, self.node2)

    @property
    def nodes(self) -> tuple[Namespace, ...]:
        """The cluster's nodes."""
        return (self.node1, self.node2)

    @staticmethod
    def address(host: Namespace, interface: str = "eth0") -> str:
        """The address of a host at one of its interfaces."""
        return HOSTS[host.host][interface]

    def route_through_gateway(self, routes: bool) -> None:
        """Whether the gateway passes packets on. Without, only a forwarder or a mirror that runs on it connects the
        transit network and the cluster."""
        done = self.gateway.run(
            "sh", "-c", f"mount -t proc proc /proc; echo {int(routes)} > /proc/sys/net/ipv4/ip_forward"
        )
        if done.returncode:
            raise RuntimeError(f"ip_forward: {done.stderr.strip()}")

    def _cable(self, host: Namespace) -> None:
        """Plug a host into its networks."""
        for interface, address in HOSTS[host.host].items():
            subnet, _, number = address.rpartition(".")
            port = f"p{subnet.split('.')[1]}-{number}"
            self._switch.ip(
                "link", "add", port, "type", "veth", "peer", "name", interface, "netns", host.name
            )
            self._switch.ip("link", "set", port, "master", _bridge(subnet), "up")
            host.add_address(interface, f"{address}/24")

    def _make_routes(self) -> None:
        self.mirror.ip("route", "add", f"{CLUSTER}.0/24", "via", self.address(self.gateway, "eth0"))
        for node in self.nodes:
            node.ip("route", "add", f"{TRANSIT}.0/24", "via", self.address(self.gateway, "eth1"))
        self.route_through_gateway(True)


def _bridge(subnet: str) -> str:
    return f"br{subnet.split('.')[1]}"


def _hosts_text() -> str:
    lines = [f"{addresses['eth0']} {host}" for host, addresses in HOSTS.items()]
    return "\n".join(["127.0.0.1 localhost", *lines, ""])
