"""A processor written for beamcast, as the rank uses it.

The user's class needs one method, `process(frame)` or `process_batch(frames)`; all else is looked for here, once, and
has a default. What the class returns is known beforehand from its attribute `output` (a dict of fields, or
`numpy.ndarray` for images), from its method `output_type(probe)`, or is taken to look like the input.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from beamcast.core.errors import NothingToConfigure, UsageError
from beamcast.pools.context import Context
from beamcast.pools.frame import Frame
from beamcast.pools.params import checked_arguments
from beamcast.pools.records import declared_record

logger = logging.getLogger(__name__)

# Enough to hide the price of a call into a GPU, and not yet a delay that is seen: 16 frames of 1 kHz take 16 ms.
DEFAULT_BATCH = 16


class NativeProcessor:
    """Fills in `beamcast.pools.processor.LoadedProcessor` for a user's object."""

    publishes_itself = False

    def __init__(self, user: Any, *, spec: str) -> None:
        """UsageError when `user` has neither `process` nor `process_batch`, or its attributes make no sense."""
        self._user = user
        batch = getattr(user, "process_batch", None)
        process = getattr(user, "process", None)
        if not callable(process):
            if not callable(batch):
                raise UsageError(f"processor {spec!r} has no method process(frame)")
            process = _one_by_one(batch)
        self.process: Callable[[Frame], Any] = process
        self.process_batch: Callable[[list[Frame]], Any] | None = batch if callable(batch) else None
        self.batch = _count(user, "batch", DEFAULT_BATCH if callable(batch) else 1, spec)
        self.outputs = _count(user, "outputs", 1, spec)
        self.fields, self._images = self._declared(getattr(user, "output", None), spec)

    def _declared(self, output: Any, spec: str) -> tuple[list[Mapping[str, Any] | None], list[bool]]:
        each = list(output) if isinstance(output, list | tuple) else [output] * self.outputs
        if len(each) != self.outputs:
            raise UsageError(
                f"processor {spec!r}: output describes {len(each)} outputs, but outputs = {self.outputs}"
            )
        for one in each:
            if one is not None and one is not np.ndarray and not isinstance(one, Mapping):
                raise UsageError(
                    f"processor {spec!r}: output = {one!r} is not possible",
                    hint='give a dict such as {"total": float}, or numpy.ndarray for images',
                )
        return [one if isinstance(one, Mapping) else None for one in each], [
            one is np.ndarray for one in each
        ]

    def records(self, probe: Any) -> Sequence[Any]:
        """What the output records are made like; UsageError where `output_type(probe)` does not say it."""
        import pvaccess

        hook = getattr(self._user, "output_type", None)
        if hook is None:
            return [
                self._record(fields, image, probe)
                for fields, image in zip(self.fields, self._images, strict=True)
            ]
        made = hook(probe)
        records = list(made) if isinstance(made, list | tuple) else [made]
        if len(records) != self.outputs or not all(
            isinstance(record, pvaccess.PvObject) for record in records
        ):
            raise UsageError(
                f"output_type() of {type(self._user).__name__} returned {made!r}",
                hint="return a PvObject, or a list of one for each output",
            )
        return records

    @staticmethod
    def _record(fields: Mapping[str, Any] | None, image: bool, probe: Any) -> Any:
        import pvaccess

        if fields is not None:
            return declared_record(fields)
        return pvaccess.NtNdArray() if image else probe

    def start(self, context: Context) -> None:
        """Call the user's `start(context)`."""
        start = getattr(self._user, "start", None)
        if start is not None:
            start(context)

    def stop(self) -> None:
        """Call the user's `stop()`."""
        stop = getattr(self._user, "stop", None)
        if stop is not None:
            stop()

    def configure(self, values: Mapping[str, object]) -> None:
        """Call the user's `configure(**values)`; UsageError when it has none or the values do not fit it."""
        configure = getattr(self._user, "configure", None)
        if configure is None:
            raise NothingToConfigure("this processor has no configure()")
        configure(**checked_arguments(configure, values, what="configure"))

    def reset_stats(self) -> None:
        """Call the user's `reset_stats()`."""
        reset = getattr(self._user, "reset_stats", None)
        if reset is not None:
            reset()

    def stats(self) -> Mapping[str, Any]:
        """The user's statistics."""
        stats = getattr(self._user, "stats", None)
        return stats() if stats is not None else {}

    def stats_types(self) -> Mapping[str, Any]:
        """The pvAccess types of the statistics, from the values that `stats()` has at the start."""
        import pvaccess

        names = {bool: "BOOLEAN", int: "LONG", float: "DOUBLE", str: "STRING"}
        return {name: getattr(pvaccess, names[type(value)]) for name, value in self.stats().items()}


def _one_by_one(batch: Callable[[list[Frame]], Any]) -> Callable[[Frame], Any]:
    def process(frame: Frame) -> Any:
        results = batch([frame])
        return None if results is None else results[0]

    return process


def _count(user: Any, name: str, default: int, spec: str) -> int:
    given = getattr(user, name, default)
    if not isinstance(given, int) or isinstance(given, bool) or given < 1:
        raise UsageError(
            f"processor {spec!r}: {name} = {given!r} is not possible", hint="give a number from 1"
        )
    return given
