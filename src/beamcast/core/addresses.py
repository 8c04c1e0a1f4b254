"""What a text says of an address. Pure."""

import ipaddress


def is_ipv4(text: str) -> bool:
    """Whether this is an IPv4 address."""
    return _version(text) == 4


def is_ipv6(text: str) -> bool:
    """Whether this is an IPv6 address, in brackets or not."""
    return _version(text.removeprefix("[").removesuffix("]")) == 6


def _version(text: str) -> int | None:
    try:
        return ipaddress.ip_address(text).version
    except ValueError:
        return None
