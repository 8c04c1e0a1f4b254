"""Commands of a scheduler that a site has wrapped (C4): a job that was taken is known, found by name, or told of."""

import os
from pathlib import Path
from typing import Any

import pytest
from parsl.providers.errors import SubmitException

from beamcast.config.load import load_site
from beamcast.launch.jobs import submission
from beamcast.launch.jobs.submission import NotUnderstood
from beamcast.launch.start.providers import make_provider

pytestmark = pytest.mark.system

SUBMIT = """#!/bin/sh
for script; do :; done
{takes} basename "$script" > {folder}/taken
{say}
"""
# Lists the job if it was taken, and is asked for its name.
LIST = """#!/bin/sh
[ -f {folder}/taken ] && for word; do case "$word" in *$(cat {folder}/taken)) echo "{job}";; esac; done
exit 0
"""
NAMES = {"slurm": ("sbatch", "squeue", "101"), "pbs": ("qsub", "qselect", "101.head")}


@pytest.fixture(params=["slurm", "pbs"])
def site(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def provider(
    site: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    say: str,
    takes: bool = True,
    lists: bool = True,
) -> Any:
    submit, listing, job = NAMES[site]
    (folder / "bin").mkdir()
    texts = {submit: SUBMIT.format(folder=folder, say=say, takes="" if takes else "#")}
    texts[listing] = LIST.format(folder=folder, job=job) if lists else "#!/bin/sh\n"
    for name, text in texts.items():
        (folder / "bin" / name).write_text(text)
        (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setattr(submission, "LOOK_AGAIN_S", 0.01)
    made = make_provider(load_site(site), worker_init="")
    made.script_dir = str(folder)
    return made


SAYINGS = {
    "alone": "echo 101{server}",
    "banner": "echo Welcome; echo 101{server}; echo; echo 3 days are left",
    "no id": "echo job accepted",
    "fails afterwards": "echo 'cannot write the accounting log' >&2; exit 1",
    "latin-1": "printf 'Gr\\374\\337e\\n101{server}\\n'",
}


@pytest.mark.parametrize("how", list(SAYINGS))
def test_a_job_that_was_taken_is_known(
    site: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = NAMES[site][2].removeprefix("101")
    made = provider(site, tmp_path, monkeypatch, say=SAYINGS[how].format(server=server))
    assert made.submit("true", 1, "block") == NAMES[site][2]
    assert list(made.resources) == [NAMES[site][2]]


def test_a_command_that_hangs_may_have_submitted(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission.submit, "__kwdefaults__", {"timeout_s": 0.5})
    made = provider(site, tmp_path, monkeypatch, say="sleep 60")
    assert made.submit("true", 1, "block") == NAMES[site][2]


def test_a_job_that_can_not_be_found_is_told_by_its_name(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = provider(site, tmp_path, monkeypatch, say="echo job accepted", lists=False)
    with pytest.raises(NotUnderstood):
        made.submit("true", 1, "block")
    (sentence,) = made.refused
    name = (tmp_path / "taken").read_text().strip()
    assert "has taken the job, and printed no id that could be understood ('job accepted')" in sentence
    assert f"no job is found under the name {name}: look for it, and cancel it" in sentence


def test_a_refusal_is_told_in_the_schedulers_words(
    site: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = provider(site, tmp_path, monkeypatch, say="echo 'invalid account' >&2; exit 1", takes=False)
    with pytest.raises(SubmitException):
        made.submit("true", 1, "block")
    assert made.refused == ["the scheduler refuses the job: invalid account"]
