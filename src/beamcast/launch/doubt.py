"""Doubt: a whole allocation has fallen silent, so its scheduler is asked, once, whether it still runs the job.

The choice: schedulers are not polled for death (centres ask for that), and Parsl waits for heartbeats of its own. The
silence of all ranks of one allocation is what makes a question worth asking; the answer "it has ended" is then known
seconds after the end. "It runs" says nothing: the link may be cut, and the ranks are waited for.
"""

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

logger = logging.getLogger(__name__)

# Two heartbeats that did not come from anybody are no accident.
HEARTBEATS_MISSED = 2
# A scheduler that says that the job runs is asked again after this time, while the silence lasts.
ASK_AGAIN_S = 10.0
ASK_AGAIN_LOCAL_S = 1.0

RankName = tuple[str, int]
Ask = Callable[[str], str | None]


class Doubts:
    """Asks about silent allocations from a thread of its own, since a scheduler may take seconds to answer.

    `ask(allocation)` returns how its job has ended, None while it runs or nothing is known. A context manager.
    """

    def __init__(self, ask: Ask, *, silence_s: float, again_s: float) -> None:
        self._ask = ask
        self._silence_s = silence_s
        self._again_s = again_s
        self._asked: dict[str, tuple[float, Future[str | None]]] = {}
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="doubt")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def look(
        self,
        allocations: Mapping[str, frozenset[RankName]],
        heard_at: Mapping[RankName, float],
        *,
        now: float,
    ) -> dict[str, str]:
        """Allocations whose job has ended, with how.

        Args:
            allocations: the ranks of each.
            heard_at: when each rank that has registered was heard last, dead or alive.
            now: seconds of the clock of `heard_at`.
        """
        ended = {}
        for name, ranks in allocations.items():
            heard = [heard_at[rank] for rank in ranks if rank in heard_at]
            if not heard or now - max(heard) < self._silence_s:
                self._asked.pop(name, None)
            elif (how := self._answer(name, now)) is not None:
                ended[name] = how
        return ended

    def _answer(self, name: str, now: float) -> str | None:
        asked_at, answer = self._asked.get(name, (now, None))
        if answer is None or (answer.done() and now - asked_at > self._again_s):
            self._asked[name] = (now, self._threads.submit(self._ask, name))
            return None
        if not answer.done():
            return None
        trouble = answer.exception()
        if trouble is not None:
            # The next question may fare better, and Parsl has its own way to find out.
            logger.warning("the scheduler can't be asked about allocation %s: %s", name, trouble)
            self._asked[name] = (now, _no_answer())
            return None
        return answer.result()


def _no_answer() -> "Future[str | None]":
    done: Future[str | None] = Future()
    done.set_result(None)
    return done
