"""The run directory: everything a run leaves behind, and what its members need to find it."""

import shutil
import tempfile
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from beamcast.config.effective import to_toml
from beamcast.core.errors import UsageError, WorldError
from beamcast.core.refusals import refusal
from beamcast.launch.plan import RunPlan
from beamcast.launch.rundir.books import BOOKS_FILE
from beamcast.launch.rundir.lease import ASIDE, LEASE_FILE, RunLease
from beamcast.members.join import SECRET_FILE
from beamcast.members.journal import FOLDER as JOURNALS
from beamcast.observe.report import Report, write_report
from beamcast.security.secret import RunSecret

REPORT_FILE = "report.json"
STATE_FILE = "state.json"
WORKFLOW_FILE, SITE_FILE = "workflow.toml", "site.toml"
# What lies on disk for a run that goes on: configuration, books, journals, frames.
KEPT = frozenset((WORKFLOW_FILE, SITE_FILE, BOOKS_FILE, JOURNALS, "spill", "failed"))


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
    def books(self) -> Path:
        """What the next controller has to know, should this one be killed."""
        return self.path / BOOKS_FILE

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
        self.write_workflow(plan)
        (self.path / SITE_FILE).write_text(to_toml(plan.site), encoding="utf-8")
        secret = RunSecret.create()
        secret.write(self.path / SECRET_FILE)
        return secret

    def reopen(self) -> RunSecret:
        """Keep what a run that was cut short needs to go on, with a new secret: its members are strangers by now."""
        before = sum(1 for _ in self.path.glob("logs-*")) + 1
        if self.logs.is_dir():
            self.logs.rename(self.path / f"logs-{before}")
        self._clear(kept=KEPT | {path.name for path in self.path.glob("logs-*")})
        self.logs.mkdir()
        secret = RunSecret.create()
        secret.write(self.path / SECRET_FILE)
        return secret

    def leave_report(self, run: str, report: Report) -> tuple[Path | None, WorldError | None]:
        """Write the final report, and remove what only a run that goes on needs. Returns where the report is (None: it
        could not be written), and what is to be told where it is not in its place: where the run directory can't be
        written, the report is left in this host's temporary folder."""
        try:
            self._write_report(report)
        except OSError as error:
            return self._leave_elsewhere(run, report, error)
        finally:
            self._forget_state()
        return self.report, None

    def _write_report(self, report: Report) -> None:
        try:
            write_report(self.report, report)
        except OSError:
            self._forget_state()  # which may make the room that the report needs
            write_report(self.report, report)

    def _forget_state(self) -> None:
        for path in (self.state, self.books):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def _leave_elsewhere(self, run: str, report: Report, why: OSError) -> tuple[Path | None, WorldError]:
        path: Path | None = None
        with suppress(OSError):
            path = Path(tempfile.mkdtemp(prefix=f"beamcast-{run}-")) / REPORT_FILE
            write_report(path, report)
        if path is not None and not path.is_file():
            shutil.rmtree(path.parent, ignore_errors=True)
            path = None
        trouble = refusal(why, doing="the report can't be written") or WorldError(
            f"the report can't be written: {why}", where=str(self.report)
        )
        trouble.hint = trouble.hint if path is None else f"It is in {path}"
        return path, trouble

    def write_workflow(self, plan: RunPlan) -> None:
        """The workflow as it is in force."""
        (self.path / WORKFLOW_FILE).write_text(to_toml(plan.workflow), encoding="utf-8")

    def _clear(self, kept: Collection[str] = ()) -> None:
        for path in self.path.iterdir():
            if path.name == LEASE_FILE or path.name.startswith(ASIDE) or path.name in kept:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
