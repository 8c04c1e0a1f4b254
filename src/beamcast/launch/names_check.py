"""Whether the channels that a run is going to serve have names of their own, and such as a search can carry. Pure."""

from collections.abc import Iterator

from beamcast.core.errors import UsageError
from beamcast.launch.plan import RunPlan

# A search of pvAccess says the length of a name in one byte, up to 253; a processor with several outputs adds `:1` and
# so on to the name of its first.
LONGEST_BYTES = 248
# Of the run and of each pool, as `beamcast.launch.run_pvs` serves them.
_OF_DESKS = ("control", "answer", "command", "drain", "stop", "PVI")
_OF_RUN = ("state", "reason", "rate", "pools", *_OF_DESKS)


def check_names(plan: RunPlan) -> None:
    """UsageError for a channel that would be served twice, or has too long a name."""
    own = dict(own_channels(plan))
    for channel, what in given_channels(plan):
        if channel in own:
            raise UsageError(
                f"{what} is {channel!r}, and so is {own[channel]}",
                hint="give it another name, or leave it out",
            )
        own[channel] = what
    longest = max(own, key=lambda channel: len(channel.encode()))
    if len(longest.encode()) > LONGEST_BYTES:
        raise UsageError(
            f"the name of a channel would have {len(longest.encode())} bytes, and a search carries {LONGEST_BYTES}: "
            f"{longest}",
            hint="give a shorter prefix in the workflow, or a shorter --name",
        )


def own_channels(plan: RunPlan) -> Iterator[tuple[str, str]]:
    """The channels that have their names from the run, and what they are."""
    prefix = plan.prefix
    yield from ((f"{prefix}:{name}", f"the run's PV {name}") for name in _OF_RUN)
    yield plan.dispatcher, "the dispatcher's service"
    yield plan.push_channel, "the service of the results"
    yield plan.metadata_channel, "the channel of the joined metadata"
    yield f"{prefix}:intake", "the channel of the written frames"
    for pool in plan.pools:
        for name in ("ranks", *_OF_DESKS):
            yield f"{prefix}:{pool.name}:{name}", f"the PV {name} of pool {pool.name}"
        for rank in range(pool.ranks):
            channels = plan.channels(pool.name, rank)
            for channel in (channels.output, channels.status, channels.control):
                yield channel, f"a PV of rank {pool.name}/{rank}"
            yield plan.dispatch_channel(pool.name, rank), f"what rank {pool.name}/{rank} reads"


def given_channels(plan: RunPlan) -> Iterator[tuple[str, str]]:
    """The channels that the run serves under names of the workflow file."""
    workflow = plan.workflow
    if workflow.source.simulate is not None or workflow.source.mode != "monitor":
        yield plan.source_channel, "source.channel"
    yield plan.mirror_channel, "the mirror's channel"
    for channel in plan.results().values():
        yield channel, "the result's channel"
    for number, each in enumerate(workflow.metadata):
        if each.simulate:
            yield each.channel, f"metadata[{number}].channel"
