"""A rank carries commands out: on its frame loop's thread, between two frames, whoever asked."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any

from beamcast.core.commands import DONE, NOTHING_TO_CONFIGURE, REFUSED, Command, Outcome
from beamcast.core.errors import NothingToConfigure, UsageError
from beamcast.pools.processor import LoadedProcessor
from beamcast.pools.steering import Steering

# A rank that ends takes with it what its server still has to send to its readers.
LAST_WORDS_S = 0.5

logger = logging.getLogger(__name__)


class Commands:
    """What a rank does when it is told. `submit` may be called from any thread."""

    def __init__(
        self,
        steering: Steering,
        processor: LoadedProcessor,
        *,
        stats: Callable[[], Mapping[str, Any]],
        reset: Callable[[], None],
        leave: Callable[[], None],
        queued: Callable[[], int],
    ) -> None:
        """`stats`: the numbers of the rank now. `reset`: count from 0 again. `leave`: take no more frames; `queued`:
        frames in hand."""
        self._steering = steering
        self._processor = processor
        self._stats = stats
        self._reset = reset
        self._leave = leave
        self._queued = queued
        self._empty_since = 0.0

    def submit(self, command: Command, answer: Callable[[Outcome], None]) -> None:
        """Do it when the frame in work is done; `answer` is called, on the frame loop's thread, when it is done."""
        self._steering.commands.put(lambda: self._do(command, answer))

    def _do(self, command: Command, answer: Callable[[Outcome], None]) -> None:
        if command.name == "drain":
            self._leave()
            self._empty_since = time.monotonic()
            self._steering.leaving = lambda: self._left(answer)
            return
        answer(self.carry_out(command))
        if command.name == "stop":
            self._steering.stop = True

    def _left(self, answer: Callable[[Outcome], None]) -> bool:
        now = time.monotonic()
        if self._queued():
            self._empty_since = now
        if now - self._empty_since < LAST_WORDS_S:
            return False
        answer(Outcome(DONE, "drained: it takes no more frames and ends"))
        self._steering.stop = True
        return True

    def carry_out(self, command: Command) -> Outcome:
        """Do what takes no time; of `stop` this is only the answer."""
        match command.name:
            case "stop":
                return Outcome(DONE, "stopping")
            case "reset_stats":
                self._reset()
                return Outcome(DONE, "statistics reset")
            case "get_stats":
                return Outcome(DONE, "statistics updated", json.dumps(self._stats(), default=str))
        return self._configure(command.values)

    def _configure(self, values: Mapping[str, object]) -> Outcome:
        try:
            self._processor.configure(values)
        except NothingToConfigure as nothing:
            return Outcome(NOTHING_TO_CONFIGURE, f"not configured: {nothing}")
        except UsageError as refused:
            return Outcome(REFUSED, f"not configured: {refused}")
        except (Exception, SystemExit) as error:
            logger.exception("the processor's configure() failed")
            return Outcome(REFUSED, f"not configured: {type(error).__name__}: {error}")
        return Outcome(DONE, "configured")
