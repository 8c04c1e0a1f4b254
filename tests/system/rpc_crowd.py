"""A service of sealed messages and its name server (`serve`), or one of the processes that ask it (`call`)."""

import os
import sys
import time

from beamcast.core.errors import WorldError
from beamcast.pva.endpoint import Endpoint
from beamcast.pva.environment import apply_environment, client_environment, server_environment
from beamcast.pva.messages import Question, Reply, Request
from beamcast.pva.nameserver import NameServer
from beamcast.pva.rpc import LINE_SETTLE_S, RpcCaller, RpcEndpoint
from beamcast.security.secret import SECRET_BYTES, RunSecret

CHANNEL = "crowd:rendezvous"
SECRET = RunSecret(bytes(SECRET_BYTES))


def handle(request: Request) -> Reply:
    """The same work for everyone."""
    return Reply(report=bytes(300))


def serve(name_port: int, port: int) -> None:
    """Until stdin ends."""
    at = Endpoint("127.0.0.1", port)
    apply_environment(server_environment(address=at.host, port=port, name_servers=[f"127.0.0.1:{name_port}"]))
    with NameServer(host="127.0.0.1", port=name_port) as names:
        RpcEndpoint(CHANNEL, secret=SECRET, handle=handle).start()
        names.serve_at({CHANNEL: at})
        print("ready", flush=True)
        sys.stdin.read()
    os._exit(0)


def call(name_port: int, until: float, number: int) -> None:
    """Ask as fast as answers come; prints how many came, how many did not, and how many of those when the line was in
    use already."""
    apply_environment(client_environment([f"127.0.0.1:{name_port}"]))
    caller = RpcCaller(CHANNEL, secret=SECRET, sender=f"caller/{number}")
    answered = troubled = on_line = 0
    first = None
    while time.time() < until:
        try:
            caller.call(Question(what="status"), timeout_s=5.0)
            answered += 1
            first = first or time.monotonic()
        except WorldError:
            troubled += 1
            on_line += first is not None and time.monotonic() - first > 1.5 * LINE_SETTLE_S
    print(answered, troubled, on_line)


if __name__ == "__main__":
    what, *arguments = sys.argv[1:]
    if what == "serve":
        serve(int(arguments[0]), int(arguments[1]))
    else:
        call(int(arguments[0]), float(arguments[1]), int(arguments[2]))
