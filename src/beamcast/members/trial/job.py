"""What is to be tried, as it travels to the process that does it."""

import msgspec

from beamcast.config.units import dec_hook, enc_hook
from beamcast.config.workflow import Metadata, Pool, Source
from beamcast.core.place import Place


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be tried: the pools, each after the ones that it reads, and the place of a rank of each."""

    run: str
    base: str
    source: Source
    metadata: tuple[Metadata, ...]
    pools: tuple[Pool, ...]
    places: tuple[Place, ...]


def encode_trial(trial: Trial) -> bytes:
    """For `decode_trial` in another process."""
    return msgspec.json.encode(trial, enc_hook=enc_hook)


def decode_trial(data: bytes) -> Trial:
    """What `encode_trial` has made."""
    return msgspec.json.decode(data, type=Trial, dec_hook=dec_hook)
