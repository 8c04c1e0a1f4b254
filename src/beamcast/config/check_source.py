"""The rules for sources that write their frames to us: by put or RPC."""

import re
from collections.abc import Iterator, Mapping

from beamcast.config.words import child, nearest, shown
from beamcast.config.workflow import Workflow
from beamcast.core.addresses import is_ipv6
from beamcast.core.errors import Problem

_ADDRESS = re.compile(r"[^\s:]+:([0-9]{1,5})")
# As `beamcast.pva.declared` makes them.
TYPES = (
    *(
        "boolean",
        "byte",
        "ubyte",
        "short",
        "ushort",
        "int",
        "uint",
        "long",
        "ulong",
        "float",
        "double",
        "string",
    ),
    "time",
)


def written_source_fits(workflow: Workflow) -> Iterator[Problem]:
    """What does not go together with `mode` put or rpc, and what its `fields` lack."""
    source = workflow.source
    if source.mode == "monitor":
        if source.fields is not None:
            message = "a channel that is monitored brings its own structure"
            yield Problem(message, "source.fields", "Leave it out, or set mode = 'put' or 'rpc'")
        return
    if source.simulate is not None:
        message = f"the simulator serves its frames, it does not write them by {source.mode}"
        yield Problem(message, "source.mode", "Leave it out")
    if source.protocol != "pva":
        yield Problem(f"mode '{source.mode}' is pvAccess", "source.protocol", "Write protocol = 'pva'")
    if source.address is not None:
        message = f"with mode '{source.mode}' the channel is served by the run itself"
        yield Problem(message, "source.address", "Leave it out")
    if source.fields is not None:
        yield from _types_are_known(source.fields, "source.fields")
        if source.id_field.split(".")[0] not in source.fields:
            message = f"there is no field {shown(source.id_field)}, which numbers the frames"
            yield Problem(
                message, "source.fields", "Add it, such as uniqueId = 'long', or set source.id_field"
            )


def queue_in_bytes_fits(workflow: Workflow) -> Iterator[Problem]:
    """Values of Channel Access are not looked at before they are mirrored."""
    if workflow.mirror.queue_bytes is not None and workflow.source.protocol != "pva":
        message = "a queue in bytes needs a pvAccess source, whose frame is looked at first"
        yield Problem(message, "mirror.queue_bytes", "Leave it out, and say mirror.queue in updates")


def addresses_fit(workflow: Workflow) -> Iterator[Problem]:
    """Where servers elsewhere are: host and port."""
    places = [(workflow.source.address, "source.address")]
    places += [(each.address, f"metadata[{index}].address") for index, each in enumerate(workflow.metadata)]
    for index, pool in enumerate(workflow.pools):
        if pool.forward is not None:
            places.append((pool.forward.address, f"pools[{index}].forward.address"))
    for address, where in places:
        match = _ADDRESS.fullmatch(address) if address is not None else None
        if address is not None and (match is None or not 0 < int(match[1]) < 65536):
            ipv6 = is_ipv6(address) or is_ipv6(address.rpartition(":")[0])
            reason = "is IPv6, which pvAccess does not speak here" if ipv6 else "is not host:port"
            yield Problem(f"{shown(address)} {reason}", where, "Such as '10.0.0.1:5075'")


def _types_are_known(fields: Mapping[str, object], where: str) -> Iterator[Problem]:
    for name, kind in fields.items():
        place = child(where, name)
        if isinstance(kind, Mapping):
            yield from _types_are_known(kind, place)
        elif not isinstance(kind, str) or (kind.removesuffix("[]") not in TYPES or kind == "time[]"):
            hint = nearest(kind.removesuffix("[]"), TYPES) if isinstance(kind, str) else None
            yield Problem(f"{shown(kind)} is not a type of field", place, hint)
