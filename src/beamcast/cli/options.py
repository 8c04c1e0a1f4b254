"""Options that several commands share, and how their text is read."""

import re
from pathlib import Path
from typing import Annotated

import typer

from beamcast.core.errors import UsageError, WorldError
from beamcast.pva.endpoint import Endpoint
from beamcast.pva.resolve import resolved

WorkflowFile = Annotated[Path, typer.Argument(help="The workflow file (TOML).", show_default=False)]
SiteOption = Annotated[str, typer.Option("--site", help="A shipped site's name or a site file.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change the workflow, such as pools.stats.ranks=4. Repeatable."
    ),
]
SetSiteOption = Annotated[
    list[str] | None,
    typer.Option("--set-site", "--site-set", metavar="KEY=VALUE", help="Change the site. Repeatable."),
]
NoCheckOption = Annotated[
    bool,
    typer.Option(
        "--no-check",
        help="Leave out the check of the processors, where this host lacks what the cluster has (a GPU, modules).",
    ),
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Log more; show tracebacks of errors.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]
InterfaceOption = Annotated[str, typer.Option(help="Network interface or address to serve on.")]
PortOption = Annotated[
    int | None, typer.Option(min=1, max=65535, help="TCP port to serve on; absent: a free one.")
]

_SHAPE = re.compile(r"([1-9][0-9]{0,8})x([1-9][0-9]{0,8})")


def parse_shape(text: str) -> tuple[int, int]:
    """Rows and columns of "512x512"; UsageError for anything else."""
    match = _SHAPE.fullmatch(text)
    if match is None:
        raise UsageError(f"--shape is rows x columns such as 512x512, not {text!r}")
    return int(match[1]), int(match[2])


def parse_endpoints(texts: list[str] | None, *, option: str) -> list[str]:
    """The "host:port" texts, with the hosts in numbers. UsageError naming the option, also for a host that nobody
    knows."""
    return [str(_endpoint(text, option)) for text in texts or ()]


def _endpoint(text: str, option: str) -> Endpoint:
    try:
        endpoint = Endpoint.parse(text)
        if not 0 < endpoint.port < 65536 or ":" in endpoint.host:
            raise ValueError(text)
    except ValueError:
        ipv6 = ", with an IPv4 address: pvAccess speaks no IPv6 here" if text.count(":") > 1 else ""
        raise UsageError(f"{option} is HOST:PORT such as 10.0.0.1:5075{ipv6}, not {text!r}") from None
    try:
        return resolved(endpoint)
    except WorldError as error:
        raise UsageError(f"{option} {text}: {error.message}", hint=error.hint) from error
