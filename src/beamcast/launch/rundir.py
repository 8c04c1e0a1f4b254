"""The run directory: everything a run leaves behind, and what its members need to find it."""

import os
from dataclasses import dataclass
from pathlib import Path

from beamcast.config.effective import to_toml
from beamcast.core.errors import UsageError
from beamcast.launch.plan import RunPlan
from beamcast.members.join import SECRET_FILE
from beamcast.security.secret import RunSecret

REPORT_FILE = "report.json"
MARK = "run.pid"


@dataclass(frozen=True, slots=True)
class RunDir:
    """Paths of one run."""

    path: Path

    @property
    def report(self) -> Path:
        """The final report, JSON."""
        return self.path / REPORT_FILE

    @property
    def logs(self) -> Path:
        """One log for each process."""
        return self.path / "logs"

    def create(self, plan: RunPlan) -> RunSecret:
        """Make the folder with the effective configuration and a new secret; an ended run of the same name is
        replaced. UsageError when a run is still going on there, or the folder holds something else."""
        if self.path.exists():
            self._clear()
        self.logs.mkdir(parents=True)
        (self.path / MARK).write_text(f"{os.getpid()}\n")
        (self.path / "workflow.toml").write_text(to_toml(plan.workflow))
        (self.path / "site.toml").write_text(to_toml(plan.site))
        secret = RunSecret.create()
        secret.write(self.path / SECRET_FILE)
        return secret

    def _clear(self) -> None:
        import shutil

        if any(self.path.iterdir()) and not (self.path / MARK).exists():
            raise UsageError(
                f"{self.path} exists and is not the directory of a run",
                hint="give another one with --run-dir",
            )
        if owner_alive(self.path):
            raise UsageError(
                f"a run is going on in {self.path}",
                hint="end it with `beamcast stop`, or give another --run-dir",
            )
        shutil.rmtree(self.path)


def owner_alive(path: Path) -> bool:
    """Whether the controller that owns a run directory still runs on this host."""
    import psutil

    try:
        pid = int((path / MARK).read_text())
        return pid != os.getpid() and "beamcast" in " ".join(psutil.Process(pid).cmdline())
    except (OSError, ValueError, psutil.Error):
        return False
