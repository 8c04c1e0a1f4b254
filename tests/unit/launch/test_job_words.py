"""What schedulers print, as they print it, and what we make of it."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from beamcast.launch.jobs.pbs import parse_qstat, parse_qstat_text
from beamcast.launch.jobs.slurm import (
    expand,
    parse_position,
    parse_sacct,
    parse_scontrol,
    parse_silent_nodes,
)
from beamcast.launch.jobs.watch import Pbs, run_command
from beamcast.launch.jobs.words import UNKNOWN, JobEnd, JobState, JobWord, seconds

# slurm 22.05, shortened where nothing is read.
SCONTROL = (
    "JobId=3 JobName=parsl.ranks-1.block-0.1795381573.2 UserId=root(0) GroupId=root(0) MCS_label=N/A Priority=1 Nice=0 "
    "Account=(null) QOS=(null) JobState={state} Reason={reason} Dependency=(null) Requeue=0 Restarts=0 BatchFlag=1 "
    "Reboot=0 ExitCode={code} RunTime=00:01:30 TimeLimit=00:05:00 TimeMin=N/A Partition=debug AllocNode:Sid=vm:1 "
    "ReqNodeList=(null) ExcNodeList=(null) NodeList={nodes} BatchHost=node1 NumNodes=3 NumCPUs=12"
)


def scontrol(state: str, *, reason: str = "None", code: str = "0:0", nodes: str = "node[1-3]") -> JobWord:
    return parse_scontrol(SCONTROL.format(state=state, reason=reason, code=code, nodes=nodes))


def test_a_job_that_waits_says_why() -> None:
    word = scontrol("PENDING", reason="QOSMaxCpuPerUserLimit", nodes="(null)")
    assert (word.state, word.reason, word.nodes, word.queue) == (
        JobState.WAITING,
        "QOSMaxCpuPerUserLimit",
        (),
        "debug",
    )
    assert not word.is_over


def test_a_job_that_runs_says_where_and_how_long_still() -> None:
    word = scontrol("RUNNING")
    assert (word.state, word.nodes, word.time_left_s) == (
        JobState.RUNNING,
        ("node1", "node2", "node3"),
        210.0,
    )


@pytest.mark.parametrize(
    ("state", "reason", "code", "said"),
    [
        ("CANCELLED", "None", "0:15", "was cancelled"),
        ("TIMEOUT", "TimeLimit", "0:15", "reached its walltime"),
        ("NODE_FAIL", "NodeDown", "0:0", "lost a node (NodeDown)"),
        ("PREEMPTED", "None", "0:15", "was preempted"),
        ("OUT_OF_MEMORY", "OutOfMemory", "0:125", "ran out of memory (OutOfMemory)"),
        ("FAILED", "NonZeroExitCode", "3:0", "failed (NonZeroExitCode, exit status 3)"),
        ("COMPLETED", "None", "0:0", "came to its end (exit status 0)"),
        ("COMPLETING", "None", "0:15", "is being ended by the scheduler"),
    ],
)
def test_ends_are_told_apart(state: str, reason: str, code: str, said: str) -> None:
    word = scontrol(state, reason=reason, code=code)
    assert word.is_over
    assert word.why() == said


@pytest.mark.parametrize(
    "text", ["", "slurm_load_jobs error: Invalid job id specified", "JobState=SOMETHING_NEW"]
)
def test_what_slurm_does_not_know_is_unknown_and_not_over(text: str) -> None:
    assert parse_scontrol(text).state is JobState.UNKNOWN
    assert not parse_scontrol(text).is_over


def test_sacct_names_who_cancelled() -> None:
    word = parse_sacct("CANCELLED by 1000|0:15|node[1-2]\n")
    assert (word.end, word.why(), word.nodes) == (
        JobEnd.CANCELLED,
        "was cancelled (by 1000)",
        ("node1", "node2"),
    )
    assert parse_sacct("").state is JobState.UNKNOWN
    assert parse_sacct("Slurm accounting storage is disabled").state is JobState.UNKNOWN


def test_the_place_in_the_queue_is_counted_from_one() -> None:
    assert parse_position("12\n7\n3_4\n9\n", "9") == 4
    assert parse_position("12\n7\n", "9") is None
    assert parse_position("", "9") is None


def test_nodes_that_do_not_answer_have_a_star_or_are_down() -> None:
    text = "node1 allocated\nnode2 allocated*\nnode2 allocated*\nnode3 down\nnode4 idle\n"
    assert parse_silent_nodes(text) == ("node2", "node3")


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("", ()),
        ("node7", ("node7",)),
        ("nid[000998-001001]", ("nid000998", "nid000999", "nid001000", "nid001001")),
        ("a[1,3-4],b2", ("a1", "a3", "a4", "b2")),
        ("rack[1-2x]", ("rack[1-2x]",)),
    ],
)
def test_short_forms_of_nodes(short: str, full: tuple[str, ...]) -> None:
    assert expand(short) == full


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("00:05:00", 300.0),
        ("1-00:00:01", 86401.0),
        ("02:03", 123.0),
        ("UNLIMITED", None),
        ("", None),
        ("5", None),
    ],
)
def test_times(text: str, value: float | None) -> None:
    assert seconds(text) == value


def qstat(job: str = "17.polaris-pbs-01", **fields: object) -> str:
    return json.dumps({"timestamp": 1, "pbs_version": "2022.1", "Jobs": {job: fields}})


def test_a_waiting_pbs_job_says_why() -> None:
    comment = "Not Running: Insufficient amount of resource: ncpus"
    word = parse_qstat(qstat(job_state="Q", comment=comment, queue="debug"), "17.polaris-pbs-01.hsn.cm")
    assert (word.state, word.reason, word.queue) == (JobState.WAITING, comment, "debug")


def test_a_running_pbs_job_says_where_and_how_long_still() -> None:
    word = parse_qstat(
        qstat(
            job_state="R",
            exec_host="x3001c0s1b0n0/0*64+x3001c0s7b1n0/0*64",
            Resource_List={"walltime": "01:00:00"},
            resources_used={"walltime": "00:45:00"},
        ),
        "17.polaris-pbs-01",
    )
    assert (word.state, word.nodes) == (JobState.RUNNING, ("x3001c0s1b0n0", "x3001c0s7b1n0"))
    assert word.time_left_s == 900.0


@pytest.mark.parametrize(
    ("status", "end"),
    [
        (271, JobEnd.CANCELLED),
        (265, JobEnd.CANCELLED),
        (-29, JobEnd.WALLTIME),
        (-28, JobEnd.MEMORY),
        (-10, JobEnd.NODE_FAILURE),
        (0, JobEnd.COMPLETED),
        (3, JobEnd.FAILED),
        (None, JobEnd.CANCELLED),
    ],
)
def test_ends_of_pbs_jobs_are_told_apart(status: int | None, end: JobEnd) -> None:
    fields = {"job_state": "F"} | ({} if status is None else {"Exit_status": status})
    assert parse_qstat(qstat(**fields), "17").end is end


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"Jobs": {}}', '{"Jobs": {"17.x": 3}}', qstat("18.x", job_state="R")]
)
def test_what_pbs_does_not_know_is_unknown(text: str) -> None:
    assert parse_qstat(text, "17.x").state is JobState.UNKNOWN


QSTAT_TEXT = """\
Job Id: 12.head
    Job_Name = parsl.ranks-1.block-0.1795381573.2
    resources_used.walltime = 00:01:30
    job_state = {state}
    queue = debug
    exec_host = node1/0*4+node2/0*4
    comment = Job run at Tue Dec 01 at 03:00 on (node1:ncpus=4)+(node2:nc
\tpus=4)
    Resource_List.walltime = 00:05:00
    Variable_List = PBS_O_HOME=/home/u,foo=005,
\tPBS_O_SHELL=/bin/bash
    {end}
Job Id: 121.head
    job_state = H
"""


def test_pbs_text_says_the_same_as_its_json() -> None:
    word = parse_qstat_text(QSTAT_TEXT.format(state="R", end=""), "12.head")
    assert (word.state, word.nodes, word.queue) == (JobState.RUNNING, ("node1", "node2"), "debug")
    assert word.time_left_s == 210.0
    ended = parse_qstat_text(QSTAT_TEXT.format(state="F", end="Exit_status = -29"), "12.head")
    assert (ended.state, ended.end) == (JobState.ENDED, JobEnd.WALLTIME)
    assert parse_qstat_text(QSTAT_TEXT, "13.head") is UNKNOWN
    assert parse_qstat_text("qstat: Unknown Job Id 12.head", "12.head") is UNKNOWN


def test_json_that_one_field_spoils_has_the_text_asked_for() -> None:
    """openpbs 1255, 2541: a value such as 005 without quotes (C5)."""
    broken = '{"Jobs": {"12.head": {"job_state": "R", "Variable_List": {"foo":005}}}}'
    answers = {"json": broken, "-f": QSTAT_TEXT.format(state="R", end="")}
    word = Pbs(lambda words: answers["json" if "json" in words else "-f"]).ask("12.head")
    assert word.state is JobState.RUNNING


def test_a_site_without_a_history_of_jobs_is_asked_without_it() -> None:
    asked: list[str] = []

    def run(words: Sequence[str]) -> str:
        asked.append(" ".join(words))
        return "" if "-x" in words else QSTAT_TEXT.format(state="Q", end="")

    assert Pbs(run).ask("12.head").state is JobState.WAITING
    assert asked == ["qstat -x -f -F json 12.head", "qstat -x -f 12.head", "qstat -f 12.head"]


@pytest.mark.parametrize(
    "text", ["", "[]", "3", '{"Jobs": []}', '{"Jobs": {"12": 3}}', '{"Jobs": null}', "[" * 100000]
)
def test_json_of_another_form_is_unknown(text: str) -> None:
    assert parse_qstat(text, "12") is UNKNOWN


def test_nothing_that_a_command_prints_is_decoded_strictly(tmp_path: Path) -> None:
    """Comments of jobs may be Latin-1 (B4)."""
    assert run_command(["printf", "Zugriff f\\374r alle"]) == "Zugriff f\ufffdr alle"
