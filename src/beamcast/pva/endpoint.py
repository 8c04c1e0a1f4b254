"""Where a server listens, as files, messages and command lines say it."""

from dataclasses import dataclass
from typing import Self


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
