"""A run that is ended while its job is being submitted: the job is given back, and none is submitted after that."""

import threading
from pathlib import Path
from typing import Any

from beamcast.config.load import load_site, load_workflow
from beamcast.launch.plan import RunPlan
from beamcast.launch.start.parsl_start import ParslStart

FIRST_LIGHT = Path(__file__).parents[3] / "examples" / "first-light" / "workflow.toml"


class Executor:
    """Of Parsl: a scheduler that takes its time, and the jobs that it has been told to end."""

    def __init__(self) -> None:
        self.provider = self
        self.blocks_to_job_id: dict[str, str] = {}
        self.submitting, self.go_on = threading.Event(), threading.Event()
        self.cancelled: list[str] = []
        self.interchange_proc = None

    def scale_out_facade(self, blocks: int) -> list[str]:
        self.submitting.set()
        assert self.go_on.wait(10)
        number = str(len(self.blocks_to_job_id))
        self.blocks_to_job_id[number] = f"job-{number}"
        return [number]

    def cancel(self, jobs: list[str]) -> None:
        self.cancelled += jobs


def test_a_job_that_is_being_submitted_is_given_back_and_none_follows(tmp_path: Path) -> None:
    plan = RunPlan(run="r", loaded=load_workflow(FIRST_LIGHT), site=load_site("local"))
    start: Any = ParslStart(plan, tmp_path, address="127.0.0.1")
    executor = Executor()
    start._kernel = type("Kernel", (), {"executors": {"ranks-1": executor}})
    threading.Thread(target=start.ask, daemon=True).start()
    assert executor.submitting.wait(10)
    ending = threading.Thread(target=start.abandon)
    ending.start()
    executor.go_on.set()
    ending.join(10)
    assert executor.cancelled == ["job-0"]
    second = threading.Thread(target=start.ask, daemon=True)
    second.start()
    second.join(0.2)
    assert second.is_alive()
    assert len(executor.blocks_to_job_id) == 1
