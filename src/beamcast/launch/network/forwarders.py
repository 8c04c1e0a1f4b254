"""Configurations of TCP forwarders, from a site's `[network.forwarder]`. Pure text.

A pvAccess search reply carries the port of the server, so a forwarder has to pass every port on to the same port of
its target. haproxy does so for a whole range in one line; stunnel wants a section for each port, and one process at
each end of the way, since it carries TLS in between.
"""

from typing import Literal

from beamcast.config.site import Forwarder, Site, Tls
from beamcast.core.errors import UsageError

End = Literal["cluster", "beamline"]

# A stream may rest for longer than any usual limit; pvAccess asks its peers for life every 15 s by itself.
IDLE = "1h"
IDLE_S = 3600


def render(site: Site, *, end: End, cluster_address: str) -> str:
    """The configuration file of the forwarder's process at one end. `cluster_address`: where beamcast faces the
    cluster, as the beamline's end reaches it. UsageError where the site has no forwarder that we can configure."""
    forwarder = site.network.forwarder
    if forwarder is None or forwarder.kind == "other":
        what = "has no [network.forwarder]" if forwarder is None else "has a forwarder of another kind"
        raise UsageError(
            f"site {site.name} {what}",
            hint="only for kind 'haproxy' and 'stunnel' a configuration can be written",
        )
    if forwarder.kind == "haproxy":
        if end == "beamline":
            raise UsageError("haproxy has one end, where the nodes reach it", hint="leave out --end beamline")
        return haproxy(forwarder, target=forwarder.target or cluster_address)
    return stunnel(forwarder, end=end, cluster_address=cluster_address)


def haproxy(forwarder: Forwarder, *, target: str) -> str:
    """haproxy.cfg; without a port in `server`, it connects to the one that the node has asked for."""
    first, last = forwarder.ports.first, forwarder.ports.last
    return f"""\
# Written by `beamcast network render`. Start it with: haproxy -f FILE
defaults
    mode tcp
    timeout connect 5s
    timeout client {IDLE}
    timeout server {IDLE}
    option clitcpka
    option srvtcpka

listen beamcast
    bind {forwarder.host}:{first}-{last}
    server beamline {target}
"""


def stunnel(forwarder: Forwarder, *, end: End, cluster_address: str) -> str:
    """stunnel.conf of one end: the cluster's end takes what nodes say and encrypts it, the beamline's end opens it."""
    target, tls = forwarder.target, forwarder.tls
    assert target is not None  # check_site
    assert tls is not None
    here, there = (forwarder.host, target) if end == "cluster" else (target, cluster_address)
    head = _stunnel_head(tls, end)
    ports = range(forwarder.ports.first, forwarder.ports.last + 1)
    sections = (f"[beamcast-{port}]\naccept = {here}:{port}\nconnect = {there}:{port}\n" for port in ports)
    return head + "\n" + "\n".join(sections)


def _stunnel_head(tls: Tls, end: End) -> str:
    lines = [
        "; Written by `beamcast network render`. Start it with: stunnel FILE",
        "foreground = yes",
        "pid =",
        "debug = notice",
        "socket = l:TCP_NODELAY=1",
        "socket = r:TCP_NODELAY=1",
        "socket = l:SO_KEEPALIVE=1",
        "socket = r:SO_KEEPALIVE=1",
        f"TIMEOUTidle = {IDLE_S}",
        f"client = {'yes' if end == 'cluster' else 'no'}",
        "sslVersionMin = TLSv1.2",
        f"CAfile = {tls.ca}",
        f"cert = {tls.certificate}",
        f"key = {tls.key}",
        # Both ends want a certificate of the other.
        "verifyChain = yes",
        *([f"checkHost = {tls.peer}"] if tls.peer is not None else []),
    ]
    return "\n".join(lines) + "\n"
