"""A port that somebody takes between the moment it was found free and the moment its server listens."""

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.system]

# In a process of its own: pvaccess reads its environment once.
SCRIPT = """
import os, subprocess, sys
THIEF = "import socket, sys; one = socket.create_server(('127.0.0.1', int(sys.argv[1]))); print(1, flush=True); input()"
from beamcast.config.site import Ports
from beamcast.launch.network.directory import PortLeases, serve_pvs
thieves = []
def steal(port):
    words = [sys.executable, "-c", THIEF, str(port)]
    thief = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    thief.stdout.readline()
    thieves.append((thief, port))
def start(at):
    if len(thieves) < 2:
        steal(at.port)
    return serve_pvs(at, "127.0.0.1:1")
leases = PortLeases(Ports(first=47000, last=47099))
server, at = leases.serve("127.0.0.1", start, lambda server: server.stop())
taken = [port for _, port in thieves]
from beamcast.pva.environment import bound_ports
print(at.port not in taken and at.port in bound_ports() and len(taken) == 2)
try:
    def always(at):
        steal(at.port)
        return serve_pvs(at, "127.0.0.1:1")
    leases.serve("127.0.0.1", always, lambda server: server.stop())
except Exception as error:
    print(type(error).__name__, "is not ours" in str(error), flush=True)
for thief, _ in thieves:
    thief.communicate()
os._exit(0)
"""


def test_it_is_leased_anew_a_few_times() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["True", "WorldError True"], done.stdout + done.stderr
