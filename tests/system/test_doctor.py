"""`beamcast doctor` as a user runs it: real processes, a real frame, real MPI."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from requirements import REPOSITORY, need

pytestmark = [pytest.mark.system, pytest.mark.mpi]


def doctor(folder: Path, *words: str) -> tuple[int, dict[str, list[dict[str, Any]]]]:
    """Exit status, and the findings of each check."""
    said = subprocess.run(
        [sys.executable, "-m", "beamcast", "doctor", "--json", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(REPOSITORY / "src")},
    )
    findings: dict[str, list[dict[str, Any]]] = {}
    for finding in json.loads(said.stdout)["findings"]:
        findings.setdefault(finding["check"], []).append(finding)
    return said.returncode, findings


def test_a_healthy_host(tmp_path: Path) -> None:
    need("mpi")
    status, findings = doctor(tmp_path, "--site", "local-mpi", "--site-set", "network.ports.first=27000")
    assert status == 0, findings
    assert [finding["verdict"] for finding in findings["frame"]] == ["ok", "ok"]
    assert [finding["verdict"] for finding in findings["mpi"]] == ["ok"]
    assert list(tmp_path.iterdir()) == []


def test_a_site_that_this_host_is_not_of(tmp_path: Path) -> None:
    status, findings = doctor(tmp_path, "--site", "polaris", "--only", "interfaces", "--only", "scheduler")
    assert status == 1
    assert {finding["verdict"] for finding in findings["interfaces"]} == {"fail"}
    assert findings["scheduler"][0]["found"] == "no qsub, qstat, qdel on PATH"
    assert all(finding["do"] for finding in findings["interfaces"])
