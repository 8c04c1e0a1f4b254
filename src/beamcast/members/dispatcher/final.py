"""How the result servers tell the dispatcher which results are final."""

import os
from collections.abc import Callable

from beamcast.members.join import SECRET_FILE
from beamcast.members.setup import Ground
from beamcast.pools.acks import Acks
from beamcast.pools.tally import Tally
from beamcast.pva.messages import MemberId
from beamcast.pva.rpc import RpcCaller
from beamcast.security.secret import RunSecret


def final_acks(dispatcher: str, ground: Ground, identity: MemberId) -> Callable[[Tally], Acks] | None:
    """Makes what reports a tally to the dispatcher's channel; None where there is no dispatcher to be told ("")."""
    if not dispatcher:
        return None

    def acks(tally: Tally) -> Acks:
        secret = RunSecret.read(ground.run_dir / SECRET_FILE)
        return Acks(
            tally,
            RpcCaller(dispatcher, secret=secret, sender=f"{identity}#{os.getpid()}"),
            pool="",
            rank=0,
            generation=identity.generation,
            window_frames=None,
            retires=True,
            leaf="",
            receiving=lambda: True,
            reopen=lambda: None,
            idle=lambda: False,
        )

    return acks
