"""Outputs written to a server elsewhere, for sites that allow outgoing connections only.

By RPC each output is answered before the rank goes on: it is there, or its frame has failed and says why. By `put` the
server's record has one value: outputs that come faster than its readers look are overwritten there, unseen. So `put` is
for slow streams.
"""

from typing import Any

from beamcast.config.workflow import Forward
from beamcast.core.errors import WorldError

# What PvaPy's and beamcast's receivers answer with.
STATUS = "status"


class Forwarder:
    """Writes PvObjects to one channel elsewhere. On the frame loop's thread."""

    def __init__(self, forward: Forward) -> None:
        import pvaccess

        self._channel = forward.channel
        self._timeout_s = float(forward.timeout)
        self._trouble: type[Exception] = pvaccess.PvaException
        self._rpc = forward.mode == "rpc"
        self._client: Any = None
        # pvaccess may crash when a channel that was used goes away.
        self._left: list[Any] = []
        self.sent = 0

    def __call__(self, pv: Any) -> None:
        """Write one object; WorldError when there is no answer in time, or the answer says no."""
        try:
            if self._client is None:
                self._client = self._connect()
            answer = self._client.invoke(pv, self._timeout_s) if self._rpc else self._client.put(pv, "")
        except self._trouble as error:
            self._left.append(self._client)
            self._client = None  # a client that failed once may stay deaf
            raise WorldError(
                f"{self._channel} does not take the output: {error}",
                hint="is the server there, and its address right (forward.address)?",
                retry_may_help=True,
            ) from error
        if answer is not None and answer.hasField(STATUS) and answer[STATUS] != 0:
            said = answer["errorMessage"] if answer.hasField("errorMessage") else f"status {answer[STATUS]}"
            raise WorldError(f"{self._channel} refuses the output: {said}")
        self.sent += 1

    def _connect(self) -> Any:
        import pvaccess

        if self._rpc:
            return pvaccess.RpcClient(self._channel)
        channel = pvaccess.Channel(self._channel)
        channel.setTimeout(self._timeout_s)
        return channel
