"""What the controller's host must have, seen to before anything is made or started."""

import logging
import os
from pathlib import Path

from beamcast.config.site import LocalProvider
from beamcast.core.job_variables import job_variables
from beamcast.launch.plan import RunPlan
from beamcast.members.host.needs import (
    TASKS_WANTED,
    check_semaphores,
    files_needed,
    make_short_folder,
    name_account,
    raise_open_files,
    tasks_allowed,
)

logger = logging.getLogger(__name__)


def meet_needs(plan: RunPlan) -> None:
    """Raise limits and fill in what can be; BeamcastError, with what to do, where a run could not start."""
    _leave_job()
    raise_open_files(files_needed(sum(pool.ranks for pool in plan.pools)))
    name_account()
    tasks, whose = tasks_allowed()
    if tasks is not None and tasks < TASKS_WANTED:
        logger.warning(
            "%d processes and threads are allowed here (%s), and a run needs %d and more: it may break off",
            tasks,
            whose,
            TASKS_WANTED,
        )
    if plan.site.executor == "parsl" and isinstance(plan.site.provider, LocalProvider):
        # Its workers run here; those on other hosts see for themselves (`beamcast.members.workers.on_node`).
        check_semaphores()
        Path(make_short_folder("bc-")).rmdir()


def _leave_job() -> None:
    """The job in which we may be is not the run's: what is started from here must not take it for its own."""
    names = job_variables(os.environ)
    if names:
        logger.info("this is inside another job, whose variables are not passed on: %s", ", ".join(names))
    for name in names:
        del os.environ[name]
