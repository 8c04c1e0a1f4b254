"""The run directory: everything a run leaves behind, and what its members need to find it."""

import shutil
from dataclasses import dataclass
from pathlib import Path

from beamcast.config.effective import to_toml
from beamcast.core.errors import UsageError
from beamcast.launch.plan import RunPlan
from beamcast.launch.rundir.lease import ASIDE, LEASE_FILE, RunLease
from beamcast.members.join import SECRET_FILE
from beamcast.security.secret import RunSecret

REPORT_FILE = "report.json"
STATE_FILE = "state.json"


@dataclass(frozen=True, slots=True)
class RunDir:
    """Paths of one run."""

    path: Path

    @property
    def report(self) -> Path:
        """The final report, JSON."""
        return self.path / REPORT_FILE

    @property
    def state(self) -> Path:
        """The report so far, for those that can't reach the controller."""
        return self.path / STATE_FILE

    @property
    def logs(self) -> Path:
        """One log for each process."""
        return self.path / "logs"

    def own(self, run: str) -> RunLease:
        """The lease to hold while the run lasts; UsageError when the folder holds something that is no run."""
        if self.path.exists() and any(self.path.iterdir()) and not (self.path / LEASE_FILE).exists():
            raise UsageError(
                f"{self.path} exists and is not the directory of a run",
                hint="give another one with --run-dir",
            )
        return RunLease(self.path, run=run)

    def create(self, plan: RunPlan) -> RunSecret:
        """Fill the folder, which has to be ours, with the effective configuration and a new secret; an ended run of
        the same name is replaced."""
        self._clear()
        self.logs.mkdir(parents=True)
        (self.path / "workflow.toml").write_text(to_toml(plan.workflow))
        (self.path / "site.toml").write_text(to_toml(plan.site))
        secret = RunSecret.create()
        secret.write(self.path / SECRET_FILE)
        return secret

    def _clear(self) -> None:
        for path in self.path.iterdir():
            if path.name == LEASE_FILE or path.name.startswith(ASIDE):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
