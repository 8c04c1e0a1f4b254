"""Whether this host is one from which a site's batch system can be reached: told before anything is started."""

import shutil
import socket
from collections.abc import Callable

from beamcast.config.site import PbsProvider, Site, SlurmProvider
from beamcast.core.errors import UsageError, WorldError
from beamcast.pva.interfaces import resolve_address

_SUBMITS = {SlurmProvider: "sbatch", PbsProvider: "qsub"}


def check_here(
    site: Site,
    *,
    which: Callable[[str], str | None] = shutil.which,
    resolve: Callable[[tuple[str, ...]], str] = resolve_address,
) -> None:
    """UsageError where the command that submits jobs is missing: this host belongs to another place than the site."""
    command = _SUBMITS.get(type(site.provider)) if site.executor == "parsl" else None
    if command is None or which(command) is not None:
        return
    lacks = [f"no {command}"]
    interfaces = site.network.cluster.interfaces
    try:
        resolve(interfaces)
    except WorldError:
        lacks.append(f"none of the interfaces {', '.join(interfaces)}")
    about = f" ({site.description})" if site.description else ""
    raise UsageError(
        f"{socket.gethostname()} can't start jobs at site {site.name}{about}: it has {' and '.join(lacks)}",
        hint=f"Run beamcast where {command} is: on a login node of that site, or a gateway to it. "
        "For this host alone take `--site local`",
    )
