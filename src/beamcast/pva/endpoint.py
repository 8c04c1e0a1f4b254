"""Where a server listens, as files, messages and command lines say it."""

from dataclasses import dataclass
from typing import Self

# Between a service's channel and whose line it is (`beamcast.pva.rpc`): EPICS allows it in no record's name.
_LINE = "|"


def line_of(channel: str, sender: str) -> str:
    """The channel on which a service listens to one sender alone."""
    return f"{channel}{_LINE}{sender}"


def without_line(channel: str) -> str:
    """The channel where whoever serves this one is found: the service's, if this is a line of it."""
    return channel.partition(_LINE)[0]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a pvAccess server listens: a numeric IP address and a TCP port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read "host:port"; raises ValueError when there is no port."""
        host, _, port = text.rpartition(":")
        if not host:
            raise ValueError(f"{text!r} is not host:port")
        return cls(host, int(port))
