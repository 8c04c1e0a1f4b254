"""The least a Python client can do: a queued pvAccess monitor and a loop that reads each frame's id."""

import argparse

from recorder import from_environment
from source import CHANNEL

from beamcast.pva.environment import apply_environment, client_environment


def main() -> None:
    """Receive until the recorder has seen the end."""
    parser = argparse.ArgumentParser()
    for name in ("--source-port", "--queue"):
        parser.add_argument(name, type=int, required=True)
    parser.add_argument("--channel", default=CHANNEL)
    options = parser.parse_args()
    apply_environment(client_environment([f"127.0.0.1:{options.source_port}"]))
    import pvaccess

    recorder = from_environment()
    queue, channel = pvaccess.PvObjectQueue(options.queue), pvaccess.Channel(options.channel)
    channel.qMonitor(queue, f"record[queueSize={options.queue}]field()")
    while not recorder.done:
        try:
            recorder.record(queue.get(0.1).getInt("uniqueId"))
        except pvaccess.QueueEmpty:
            continue
    channel.stopMonitor()


if __name__ == "__main__":
    main()
