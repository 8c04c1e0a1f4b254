"""The rules between the fields of a workflow, in one place.

Each rule is a function from the struct to the problems it finds; all of them run, and all problems are
reported together. Only the rules about files look at the disk.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from beamcast.config.check_keys import key_files_exist, sealing_fits
from beamcast.config.check_metadata import ca_source_fits, metadata_fits
from beamcast.config.check_parts import (
    branches_fit,
    collectors_gather,
    frames_can_be_repeated,
    parts_fit,
    results_come_once,
    stacks_fit,
)
from beamcast.config.check_source import addresses_fit, queue_in_bytes_fits, written_source_fits
from beamcast.config.words import nearest, shown
from beamcast.config.workflow import Simulation, Workflow
from beamcast.core.errors import ConfigError, Problem

SOURCE = "source"
# What pvAccess arrays hold and their bytes an element.
DTYPE_BYTES = {
    "int8": 1, "int16": 2, "int32": 4, "int64": 8,
    "uint8": 1, "uint16": 2, "uint32": 4, "uint64": 8,
    "float32": 4, "float64": 8,
}  # fmt: skip
# pvAccess counts an array's bytes in a signed 32-bit number; a larger image can't be sent at all.
LARGEST_FRAME = 2 * 1024**3
# `uniqueId` is a signed number of 32 bits.
LAST_ID = 2**31 - 1
HDF5 = (".h5", ".hdf5", ".hdf", ".nxs", ".cxi")
_PROCESSOR = re.compile(r"(?P<file>[^:\0]+\.py|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*)")


class Loaded(Protocol):
    """A workflow with the file it came from (`beamcast.config.load.LoadedWorkflow` is one)."""

    @property
    def workflow(self) -> Workflow: ...
    @property
    def path(self) -> Path: ...
    @property
    def base(self) -> Path: ...


def check_workflow(loaded: Loaded) -> None:
    """Raise ConfigError with everything in the workflow that breaks a rule; needs the files beside it."""
    problems = [problem for rule in _RULES for problem in rule(loaded.workflow)]
    problems += [problem for file_rule in _FILE_RULES for problem in file_rule(loaded.workflow, loaded.base)]
    if problems:
        raise ConfigError.of(problem.inside(str(loaded.path)) for problem in problems)


def _names_differ(workflow: Workflow) -> Iterator[Problem]:
    names = [pool.name for pool in workflow.pools]
    for index, name in enumerate(names):
        if name == SOURCE:
            yield Problem(
                f"a pool can't be named '{SOURCE}': that is the detector's channel", _at(index, "name")
            )
        if name in names[:index]:
            message = f"the name '{name}' is taken by pools[{names.index(name)}]"
            yield Problem(message, _at(index, "name"), "Give each pool its own name")


def _inputs_exist(workflow: Workflow) -> Iterator[Problem]:
    names = {pool.name for pool in workflow.pools}
    for index, pool in enumerate(workflow.pools):
        if pool.input == pool.name != SOURCE:
            yield Problem("a pool can't read its own output", _at(index, "input"))
        elif pool.input not in names | {SOURCE}:
            hint = nearest(pool.input, (names - {pool.name}) | {SOURCE})
            yield Problem(f"no pool is named {shown(pool.input)}", _at(index, "input"), hint)
        elif pool.role == "collector" and pool.input == SOURCE:
            message = "a collector gathers the output of a pool, not of the source"
            yield Problem(message, _at(index, "input"), "Name a consumer pool, or make this one a consumer")
        for number, name in enumerate(pool.join):
            where = _at(index, f"join[{number}]")
            if name not in names or name == pool.name:
                hint = nearest(name, names - {pool.name})
                yield Problem(f"no other pool is named {shown(name)}", where, hint)
            elif name in (pool.input, *pool.join[:number]):
                yield Problem(f"{shown(name)} is an input already", where, "Each input brings one part")


def _no_loops(workflow: Workflow) -> Iterator[Problem]:
    inputs = {pool.name: pool.inputs for pool in workflow.pools}
    reported: set[str] = set()
    for index, pool in enumerate(workflow.pools):
        loop = _loop_from(pool.name, inputs)
        if len(loop) > 1 and not reported.intersection(loop):
            reported.update(loop)
            message = f"pools read each other's output in a loop: {' -> '.join([*loop, loop[0]])}"
            yield Problem(message, _at(index, "input"), f"One of them has to read from '{SOURCE}'")


def _loop_from(name: str, inputs: dict[str, tuple[str, ...]]) -> list[str]:
    """Return the pools of a loop that contains `name`, upstream in order; empty if it is in none."""
    ways = [[name]]
    reached = {name}
    while ways:
        way = ways.pop()
        for above in inputs.get(way[-1], ()):
            if above == name:
                return way
            if above not in reached:
                reached.add(above)
                ways.append([*way, above])
    return []


def _results_come_from_a_pool(workflow: Workflow) -> Iterator[Problem]:
    ranks = {pool.name: pool.ranks for pool in workflow.pools}
    if workflow.results is None:
        return
    name = workflow.results.pool
    if name not in ranks:
        yield Problem(f"no pool is named {shown(name)}", "results.pool", nearest(name, ranks))
    elif ranks[name] > 1:
        message = f"results come from one rank, and pool {shown(name)} has {ranks[name]}"
        yield Problem(message, "results.pool", "Name a collector of one rank that reads it, or set ranks = 1")


def _sets_fit_the_policy(workflow: Workflow) -> Iterator[Problem]:
    for index, pool in enumerate(workflow.pools):
        policy, sets = pool.distribution.policy, pool.distribution.sets
        where = _at(index, "distribution.sets")
        if policy == "sets" and sets is None:
            yield Problem("policy 'sets' needs the number of sets", where, "Write sets = 2, for instance")
        elif policy != "sets" and sets is not None:
            yield Problem(
                f"policy '{policy}' takes no number of sets", where, "Leave it out, or use policy 'sets'"
            )
        elif sets is not None and sets > pool.ranks:
            yield Problem(f"{sets} sets need at least {sets} ranks, and the pool has {pool.ranks}", where)


def _least_ranks_are_ranks(workflow: Workflow) -> Iterator[Problem]:
    for index, pool in enumerate(workflow.pools):
        if pool.min_ranks is not None and pool.min_ranks > pool.ranks:
            message = f"the pool has {pool.ranks} ranks, so {pool.min_ranks} never come"
            yield Problem(message, _at(index, "min_ranks"), "Lower it, or raise ranks")


def _channels_differ(workflow: Workflow) -> Iterator[Problem]:
    taken = {workflow.source.channel: "source.channel"}
    result = workflow.results.channel if workflow.results is not None else None
    for channel, where in ((workflow.mirror.channel, "mirror.channel"), (result, "results.channel")):
        if channel in taken:
            yield Problem(f"{shown(channel)} is already {taken[channel]}", where, "Give it a name of its own")
        elif channel is not None:
            taken[channel] = where


def _times_fit(workflow: Workflow) -> Iterator[Problem]:
    times = workflow.deadlines
    if times.silence <= 2 * times.heartbeat:
        message = f"{times.silence} of silence is too little with a heartbeat each {times.heartbeat}"
        yield Problem(message, "deadlines.silence", "It has to be more than two heartbeats: one may be late")
    for index, pool in enumerate(workflow.pools):
        if pool.role == "collector" and pool.reorder_timeout >= times.drain:
            message = f"waiting {pool.reorder_timeout} for an id outlasts the drain of {times.drain}"
            yield Problem(message, _at(index, "reorder_timeout"), "Shorten it or lengthen deadlines.drain")


def _processors_are_named_well(workflow: Workflow) -> Iterator[Problem]:
    for index, pool in enumerate(workflow.pools):
        if _PROCESSOR.fullmatch(pool.processor) is None:
            hint = "Write 'file.py:Class' or 'package.module:Class'"
            yield Problem(f"{shown(pool.processor)} names no class", _at(index, "processor"), hint)


def _simulation_is_possible(workflow: Workflow) -> Iterator[Problem]:
    simulation = workflow.source.simulate
    if simulation is None:
        return
    if workflow.source.protocol != "pva":
        message = "the simulator serves pvAccess, not Channel Access"
        yield Problem(message, "source.protocol", "Write protocol = 'pva' or leave out [source.simulate]")
    if simulation.first_id > LAST_ID:
        yield Problem(
            f"the ids of an NTNDArray end at {LAST_ID}", "source.simulate.first_id", "Give a smaller one"
        )
    yield from _image_is_possible(simulation)
    yield from _file_is_playable(simulation)


def _image_is_possible(simulation: Simulation) -> Iterator[Problem]:
    item_bytes = DTYPE_BYTES.get(simulation.dtype)
    if item_bytes is None:
        message = f"{shown(simulation.dtype)} is not a type of pixel"
        yield Problem(message, "source.simulate.dtype", nearest(simulation.dtype, DTYPE_BYTES))
        return
    rows, columns = simulation.shape
    if rows * columns * item_bytes > LARGEST_FRAME:
        message = f"an image of {rows} x {columns} {simulation.dtype} is larger than 2 GiB"
        yield Problem(message, "source.simulate.shape", "pvAccess can't send such an array")


def _file_is_playable(simulation: Simulation) -> Iterator[Problem]:
    where = "source.simulate.file"
    if simulation.file is None:
        if simulation.dataset is not None:
            yield Problem(
                "a dataset without the HDF5 file it is in", "source.simulate.dataset", f"Set {where} too"
            )
        return
    suffix = Path(simulation.file).suffix.lower()
    if suffix not in (".npy", *HDF5):
        yield Problem(
            f"{shown(simulation.file)} can't be played", where, f"Endings known: .npy, {', '.join(HDF5)}"
        )
    elif suffix in HDF5 and simulation.dataset is None:
        message = "an HDF5 file needs the path of the dataset in it"
        yield Problem(message, "source.simulate.dataset", "Such as dataset = '/entry/data/data'")
    elif suffix == ".npy" and simulation.dataset is not None:
        yield Problem(
            "a .npy file holds one array and no datasets", "source.simulate.dataset", "Leave it out"
        )


def _processor_files_exist(workflow: Workflow, base: Path) -> Iterator[Problem]:
    for index, pool in enumerate(workflow.pools):
        match = _PROCESSOR.fullmatch(pool.processor)
        if match is not None and match["file"].endswith(".py") and not (base / match["file"]).is_file():
            hint = f"Paths start at the workflow file's folder, {base}"
            yield Problem(f"no file {shown(match['file'])}", _at(index, "processor"), hint)


def _simulated_file_exists(workflow: Workflow, base: Path) -> Iterator[Problem]:
    simulation = workflow.source.simulate
    if simulation is not None and simulation.file is not None and not (base / simulation.file).is_file():
        hint = f"Paths start at the workflow file's folder, {base}"
        yield Problem(f"no file {shown(simulation.file)}", "source.simulate.file", hint)


def _at(index: int, field: str) -> str:
    return f"pools[{index}].{field}"


_RULES: tuple[Callable[[Workflow], Iterator[Problem]], ...] = (
    _names_differ,
    sealing_fits,
    _inputs_exist,
    _no_loops,
    _results_come_from_a_pool,
    results_come_once,
    _sets_fit_the_policy,
    _least_ranks_are_ranks,
    parts_fit,
    collectors_gather,
    branches_fit,
    frames_can_be_repeated,
    stacks_fit,
    _channels_differ,
    _times_fit,
    _processors_are_named_well,
    _simulation_is_possible,
    metadata_fits,
    ca_source_fits,
    written_source_fits,
    addresses_fit,
    queue_in_bytes_fits,
)
_FILE_RULES: tuple[Callable[[Workflow, Path], Iterator[Problem]], ...] = (
    _processor_files_exist,
    _simulated_file_exists,
    key_files_exist,
)
