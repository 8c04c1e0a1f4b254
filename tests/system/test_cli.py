"""The command line as a user has it: a process, its exit status, what it prints."""

import json
import os
import re
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from beamcast.core.ids import parse_ranges

pytestmark = pytest.mark.system
EXAMPLE = Path(__file__).parents[2] / "examples" / "first-light" / "workflow.toml"
TIMEOUT_S = 60.0
WHERE = re.compile(r"at (127\.0\.0\.1:[0-9]+)")


def environment() -> dict[str, str]:
    """Without the shell's EPICS settings, and with the colours of a dumb terminal."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EPICS_")}
    return {**kept, "NO_COLOR": "1", "TERM": "dumb", "PYTHONUNBUFFERED": "1"}


def beamcast(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "beamcast", *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@contextmanager
def running(*arguments: str, cwd: Path) -> Iterator["subprocess.Popen[str]"]:
    """A command that goes on until it is interrupted; killed if the test fails."""
    process = subprocess.Popen(
        [sys.executable, "-m", "beamcast", *arguments],
        cwd=cwd,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def where(process: "subprocess.Popen[str]") -> str:
    """The address:port that a command says it serves at."""
    assert process.stdout is not None
    for line in process.stdout:
        if (match := WHERE.search(line)) is not None:
            return match[1]
    raise AssertionError("the command ended without saying where it serves")


def interrupt(process: "subprocess.Popen[str]") -> str:
    """Ctrl-C; returns what it printed from then on."""
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=TIMEOUT_S)
    return out


def test_version_names_what_a_report_of_a_problem_needs(tmp_path: Path) -> None:
    done = beamcast("version", cwd=tmp_path)
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        "beamcast",
        "python",
        "pvapy",
        "parsl",
        "mpi4py",
    ]


def test_the_version_and_the_exit_statuses_are_one_option_away(tmp_path: Path) -> None:
    """P19."""
    done = beamcast("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout.split()[0]) == (0, "beamcast")
    told = " ".join(beamcast("--help", cwd=tmp_path).stdout.split())
    assert "4 more frames failed than max_failed; 5 a run gave nothing" in told


def test_sites_lists_the_shipped_ones(tmp_path: Path) -> None:
    done = beamcast("sites", cwd=tmp_path)
    assert done.returncode == 0
    assert {"local", "local-mpi"} <= {line.split()[0] for line in done.stdout.splitlines()}


@pytest.mark.parametrize("model", ["workflow", "site"])
def test_schema_is_json(model: str, tmp_path: Path) -> None:
    done = beamcast("schema", model, cwd=tmp_path)
    assert done.returncode == 0
    assert "name" in json.loads(done.stdout)["properties"]


def test_plan_shows_ranks_and_environment_and_starts_nothing(tmp_path: Path) -> None:
    done = beamcast(
        "plan", str(EXAMPLE), "--name", "p1", "--set", "pools.stats.ranks=3", "--json", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    ranks = [(rank["pool"], rank["rank"], rank.get("turn")) for rank in plan["ranks"]]
    assert ranks == [("stats", 0, 0), ("stats", 1, 1), ("stats", 2, 2), ("collect", 0, None)]
    assert plan["environment"]["rank"]["EPICS_PVA_AUTO_ADDR_LIST"] == "NO"
    assert plan["batch_script"] is None
    assert list(tmp_path.iterdir()) == []


def test_plan_for_people_and_with_mpi_writes_nothing_either(tmp_path: Path) -> None:
    done = beamcast("plan", str(EXAMPLE), "--site", "local-mpi", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "stats/1" in done.stdout
    assert done.stdout.count("EPICS_PVA_AUTO_ADDR_LIST") == 1, "the same for all processes, so said once"
    assert "MPIExecutor" not in done.stdout
    done = beamcast("plan", str(EXAMPLE), "--site", "local-mpi", "--parsl", cwd=tmp_path)
    assert "MPIExecutor" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "directive"), [("slurm", "#SBATCH --nodes=2"), ("pbs", "#PBS -l select=2")])
def test_plan_renders_the_batch_script(kind: str, directive: str, tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text(f'extends = "local"\nname = "s"\n[provider]\nkind = "{kind}"\n[allocation]\nnodes = 2\n')
    done = beamcast("plan", str(EXAMPLE), "--site", str(site), "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    script = json.loads(done.stdout)["batch_script"]
    assert directive in script
    assert "process_worker_pool.py" in script


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "nosuch.toml"], ["nosuch.toml: no such file"]),
        (["run", str(EXAMPLE), "--site", "locla"], ["unknown site 'locla'", "Did you mean 'local'?"]),
        (
            ["run", str(EXAMPLE), "--set", "pools.stats.rank=4"],
            ["unknown key 'rank'", "Did you mean 'ranks'?"],
        ),
        (["run", str(EXAMPLE), "--name", "a b"], ["'a b' is no name for a run"]),
        (["run", str(EXAMPLE), "--site-set", "allocation.ranks_per_node=1"], ["pool stats does not fit"]),
        (["run", str(EXAMPLE), "--set-site", "foo"], ["--set-site foo: an assignment needs '='"]),
        (
            ["run", str(EXAMPLE), "--set-site", "allocation.nods=2"],
            ["--set-site allocation.nods=2: allocation.nods"],
        ),
        (["status", "nix"], ["no run 'nix'"]),
        (["report", "nix"], ["no run 'nix'"]),
        (["stop", "nix"], ["no run 'nix'"]),
        (["sim", "x", "--shape", "big"], ["--shape is rows x columns"]),
        (["sim", "x", "--file", "gone.npy"], ["gone.npy"]),
        (["consumer", "--input", "a", "--output", "b", "--processor", "gone.py:P"], ["gone.py"]),
        (["consumer", "--input", "a", "--output", "b", "--params", "5"], ["--params"]),
        (["consumer", "--input", "a", "--output", "b", "--open", "gone.keys"], ["gone.keys"]),
        (
            ["collector", "--input", "a", "--output", "b", "--receiver-queue-bytes", "8 Mb"],
            ["--receiver-queue-bytes", "'Mb'"],
        ),
        (["mirror", "--source", "a", "--channel", "a"], ["needs a name of its own"]),
        (["frobnicate"], ["frobnicate"]),
    ],
)
def test_bad_input_gets_one_message_and_status_2(
    arguments: list[str], words: list[str], tmp_path: Path
) -> None:
    done = beamcast(*arguments, cwd=tmp_path)
    expected = (
        1 if "gone.npy" in arguments else 2
    )  # a file that is not there is wrong data, not a wrong option
    assert done.returncode == expected, done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr
    assert not (tmp_path / "runs").exists()


def test_every_problem_of_a_file_is_told_in_a_line_of_its_own(tmp_path: Path) -> None:
    text = EXAMPLE.read_text().replace("ranks = 2", "rangs = 2").replace('"500 Hz"', '"500 Hertz"')
    (tmp_path / "bad.toml").write_text(text)
    done = beamcast("run", "bad.toml", cwd=tmp_path)
    assert done.returncode == 2
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 2
    assert "rangs" in done.stderr
    assert "500 Hertz" in done.stderr


def test_an_absent_input_is_an_error_of_the_world(tmp_path: Path) -> None:
    done = beamcast(
        "consumer", "--input", "nobody:serves:this", "--output", "t:o", "--name-server", "127.0.0.1:1",
        "--appear-timeout", "0.3", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1
    assert "nobody:serves:this" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_sim_mirror_and_consumer_chain_without_a_gap(tmp_path: Path) -> None:
    with running("sim", "cli:image", "--rate", "400", "--shape", "64x48", cwd=tmp_path) as sim:
        source = where(sim)
        options = ["--source", "cli:image", "--channel", "cli:mirror", "--source-server", source]
        with running("mirror", *options, cwd=tmp_path) as mirror:
            at = where(mirror)
            done = beamcast(
                "consumer", "--input", "cli:mirror", "--output", "cli:c:output", "--name-server", at,
                "--frames", "300", "--report-json", "r.json", cwd=tmp_path,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            told = interrupt(mirror)
        ended = interrupt(sim)
    report: dict[str, Any] = json.loads((tmp_path / "r.json").read_text())
    assert report["processed"] >= 300
    assert report["missing"] == 0
    assert report["published"] == report["processed"]
    ids = parse_ranges(report["processed_ids"])
    assert len(ids) == report["processed"]
    assert ids.max() - ids.min() + 1 == len(ids)
    assert f"processed {report['processed']} frames" in done.stdout
    assert mirror.returncode == sim.returncode == 0
    received = re.findall(r"received ([0-9]+)", told)
    assert int(received[-1]) >= report["processed"]
    assert re.search(r"sent [0-9]+ frames .* jitter p50", ended)


def test_two_consumers_share_a_group_and_a_collector_joins_them(tmp_path: Path) -> None:
    with running("sim", "cli:share", "--rate", "200", "--shape", "16x16", cwd=tmp_path) as sim:
        source = where(sim)
        common = ["--input", "cli:share", "--name-server", source, "--group", "g1"]
        first = [*common, "--output", "cli:s0:output", "--report-json", "s0.json"]
        second = [*common, "--output", "cli:s1:output", "--report-json", "s1.json"]
        with (
            running("consumer", *first, cwd=tmp_path) as one,
            running("consumer", *second, cwd=tmp_path) as two,
        ):
            servers = [where(one), where(two)]
            inputs = ["--input", "cli:s0:output", "--input", "cli:s1:output"]
            names = [word for server in servers for word in ("--name-server", server)]
            done = beamcast(
                "collector", *inputs, *names, "--output", "cli:all:output", "--frames", "200",
                "--report-json", "c.json", cwd=tmp_path,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            interrupt(one)
            interrupt(two)
        interrupt(sim)
    reports = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("s0", "s1", "c")]
    shares = [parse_ranges(report["processed_ids"]) for report in reports[:2]]
    assert not shares[0] & shares[1]
    assert reports[2]["processed"] >= 200
    assert reports[2]["late"] == 0
    # While the first consumer was alone it had every turn; what the collector got has no gap once both were there.
    both = parse_ranges(reports[2]["processed_ids"])
    assert len(both) == reports[2]["processed"]
    assert both & shares[0]
    assert both & shares[1]


def test_a_consumer_seals_and_a_collector_opens_with_queues_in_bytes(tmp_path: Path) -> None:
    assert beamcast("keys", "create", "stream.keys", cwd=tmp_path).returncode == 0
    with running("sim", "cli:plain", "--rate", "100", "--shape", "32x32", cwd=tmp_path) as sim:
        sealing = ["--input", "cli:plain", "--name-server", where(sim), "--output", "cli:sealed:output"]
        with running("consumer", *sealing, "--seal", "stream.keys", cwd=tmp_path) as consumer:
            reading = ["--input", "cli:sealed:output", "--name-server", where(consumer)]
            opened = beamcast(
                "collector", *reading, "--output", "cli:o1:output", "--open", "stream.keys", "--json",
                "--receiver-queue-bytes", "64 KiB", "--server-queue-bytes", "1 MiB", "--frames", "100",
                "--processor", "beamcast.processors.statistics:FrameStatistics", cwd=tmp_path,
            )  # fmt: skip
            shut = beamcast(
                "consumer", *reading, "--output", "cli:o2:output", "--frames", "20", "--json",
                "--processor", "beamcast.processors.statistics:FrameStatistics", cwd=tmp_path,
            )  # fmt: skip
            interrupt(consumer)
        interrupt(sim)
    assert opened.returncode == 0, opened.stderr
    report = json.loads(opened.stdout)
    assert report["processed"] >= 100
    assert report["failed"] == report["missing"] == 0
    assert shut.returncode == 0, shut.stderr
    closed = json.loads(shut.stdout)
    assert closed["failed"] >= 20, "without the keys"
    assert closed["processed"] == 0
    assert "beamcast.aes256gcm" in closed["tracebacks"][0]


def test_the_simulator_ends_by_itself_and_says_what_it_reached(tmp_path: Path) -> None:
    done = beamcast(
        "sim", "cli:short", "--frames", "50", "--rate", "1000", "--restart-after", "20", "--linger", "0",
        "--shape", "8x8", "--first-id", "5", "--json", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["sent"] == 50
    assert report["last_id"] == 5 + 9, "two restarts: 20 + 20 + 10 frames"


@pytest.mark.slow
def test_a_run_from_the_command_line_and_its_report(tmp_path: Path) -> None:
    done = beamcast(
        "run", str(EXAMPLE), "--name", "cli-run", "--set", "source.simulate.frames=200",
        "--set", "source.channel=cli:run:image", "--set", "results.channel=cli:run:result", cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "done: source 200" in done.stdout
    assert "Traceback" not in done.stderr
    folder = tmp_path / "runs" / "cli-run"
    assert (folder / "logs" / "controller.log").read_text().count("run cli-run is streaming") == 1
    assert tomllib.loads((folder / "workflow.toml").read_text())["source"]["channel"] == "cli:run:image"
    shown = beamcast("report", "cli-run", "--json", cwd=tmp_path)
    assert json.loads(shown.stdout)["frames"]["collected"] == 200
    after = beamcast("status", "cli-run", cwd=tmp_path)
    assert after.returncode == 0
    assert after.stdout.startswith("the run has ended")
