"""The rules for metadata channels, and for a source or metadata that come by Channel Access."""

from collections.abc import Iterator

from beamcast.config.words import shown
from beamcast.config.workflow import Workflow
from beamcast.core.errors import Problem


def metadata_fits(workflow: Workflow) -> Iterator[Problem]:
    """Each value has a name and a channel of its own, and a rule that can be carried out."""
    for index, one in enumerate(workflow.metadata):
        before = workflow.metadata[:index]
        if one.name in [other.name for other in before]:
            yield Problem(f"the name {shown(one.name)} is taken", _at(index, "name"))
        if one.channel in [other.channel for other in before]:
            yield Problem(f"{shown(one.channel)} is joined already", _at(index, "channel"))
        if one.match == "nearest" and one.tolerance is None:
            message = "the nearest value can be any time away, so it needs a limit"
            yield Problem(message, _at(index, "tolerance"), "Half the time between two updates is a good one")
        if one.wait >= workflow.deadlines.drain:
            message = f"waiting {one.wait} for metadata outlasts the drain of {workflow.deadlines.drain}"
            yield Problem(message, _at(index, "wait"), "Shorten it or lengthen deadlines.drain")
        if one.simulate and workflow.source.simulate is None:
            message = "only the simulator of the run serves simulated metadata"
            yield Problem(message, _at(index, "simulate"), "Add [source.simulate], or leave it out")
        if one.protocol == "ca":
            yield from _channel_access(workflow, index)


def _channel_access(workflow: Workflow, index: int) -> Iterator[Problem]:
    one = workflow.metadata[index]
    if one.simulate:
        yield Problem("the simulator serves pvAccess, not Channel Access", _at(index, "protocol"))
    if one.address is not None:
        hint = "Set EPICS_CA_ADDR_LIST or EPICS_CA_NAME_SERVERS instead"
        yield Problem("`address` is for pvAccess channels", _at(index, "address"), hint)
    if one.match == "id":
        yield Problem("a Channel Access update carries no frame id", _at(index, "match"), "Match by time")


def ca_source_fits(workflow: Workflow) -> Iterator[Problem]:
    """Channel Access knows no ids and no structures: the mirror numbers the updates itself."""
    source = workflow.source
    if source.protocol != "ca":
        return
    if source.id_field != "uniqueId":
        message = "the updates of a Channel Access source are numbered by the mirror, in uniqueId"
        yield Problem(message, "source.id_field", "Leave it out")
    if source.address is not None:
        hint = "Set EPICS_CA_ADDR_LIST or EPICS_CA_NAME_SERVERS instead"
        yield Problem("`address` is for pvAccess channels", "source.address", hint)
    if workflow.delivery == "at-least-once":
        message = "a Channel Access source is sent at-most-once: its server keeps no more than the last value"
        yield Problem(message, "delivery", "Write delivery = 'at-most-once'")


def _at(index: int, field: str) -> str:
    return f"metadata[{index}].{field}"
