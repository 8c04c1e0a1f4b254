"""The wheel, outside the checkout: what people install is whole, and the tutorial's first stream runs with it."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from requirements import REPOSITORY

TUTORIAL = REPOSITORY / "docs" / "tutorials" / "first-stream.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TUTORIAL.read_text(), re.DOTALL)


@pytest.mark.system
@pytest.mark.timeout(400)
def test_the_tutorial_runs_with_the_wheel(tmp_path: Path) -> None:
    folder = tmp_path / "somewhere else"
    folder.mkdir()
    words = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(REPOSITORY)]
    subprocess.run(words, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("beamcast-*.whl")
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True, timeout=60)
    fast = importlib.util.find_spec("uv") is not None
    install = [sys.executable, "-m", "uv", "pip", "install", "--python", str(python)]
    install = install if fast else [str(python), "-m", "pip", "install"]
    subprocess.run([*install, "--quiet", str(wheel)], check=True, capture_output=True, timeout=240)
    (folder / "bright.py").write_text(blocks("python")[0])
    (folder / "workflow.toml").write_text(blocks("toml")[0])
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def beamcast(*arguments: str) -> "subprocess.CompletedProcess[str]":
        words = [str(python), "-m", "beamcast", *arguments]
        return subprocess.run(
            words, cwd=folder, env=environment, capture_output=True, text=True, timeout=110, check=False
        )

    where = [str(python), "-c", "import beamcast; print(beamcast.__file__)"]
    found = subprocess.run(where, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    assert str(folder) in found.stdout, "beamcast did not come from the wheel"
    assert "polaris" in beamcast("sites").stdout
    plan = beamcast("plan", "workflow.toml")
    assert plan.returncode == 0, plan.stderr[-2000:]
    done = beamcast("run", "workflow.toml", "--run-dir", "run")
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"1000 +1000 +1000 +1000 +0 +0 +0 +0", done.stdout), done.stdout[-3000:]
