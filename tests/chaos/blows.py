"""Blows: each hurts the run once its stream is under way, and returns when (seconds of the wall clock)."""

import random
import signal
import time
from collections.abc import Sequence

import psutil

from chaos.scenario import Blow
from chaos.trial import Trial, kill

# The blow falls in the middle of the stream: results were seen, and frames are in everybody's hands.
UNDER_WAY = 600
# The name server is back by then.
NAMES_S = 1.0
# So long after the run reads a restarted detector again, somebody starts its acquisition.
CONNECT_S = 3.0


def none(trial: Trial) -> float | None:
    """Nobody is hurt from outside."""
    return None


def kill_ranks(pool: str, ranks: Sequence[int], *, after: int = UNDER_WAY) -> Blow:
    """SIGKILL to some ranks of a pool at once."""

    def blow(trial: Trial) -> float:
        trial.wait_for_results(after)
        return kill([trial.rank(pool, rank) for rank in ranks])

    return blow


def kill_member(module: str, *words: str, after: int = UNDER_WAY) -> Blow:
    """SIGKILL to a member beside the controller: "dispatcher.mirror" or "results", say. `words` of its
    command line tell those of one module apart."""

    def blow(trial: Trial) -> float:
        trial.wait_for_results(after)
        (member,) = trial.processes(f"beamcast.members.{module} ", *words)
        return kill([member])

    return blow


def kill_name_server(trial: Trial) -> float:
    """SIGKILL to the run's name server, and then to a rank and the collector, whose successors have to be found."""
    trial.wait_for_results(UNDER_WAY)
    names = [one for one in trial.controller.children() if "beamcast.members.names" in one.cmdline()]
    if not names:
        raise RuntimeError("the run has no name server")
    kill(names)
    time.sleep(NAMES_S)
    return kill([trial.rank("work", 1), trial.rank("collect", 0)])


def kill_for_good(trial: Trial) -> float:
    """SIGKILL to a rank that is not started again, and then to the collector, whose successor must do without it."""
    trial.wait_for_results(UNDER_WAY)
    kill([trial.rank("work", 0)])
    trial.wait_for_results(2 * UNDER_WAY)
    return kill([trial.rank("collect", 0)])


def kill_controller(trial: Trial) -> float:
    """SIGKILL to the controller, and so to all that runs beside it; then the run is resumed."""
    trial.wait_for_results(UNDER_WAY)
    blow_at = kill([trial.controller])
    trial.resume()
    return blow_at


def scale(*sizes: int, before: int, more: int, lost: int = 0) -> Blow:
    """The pool of consumers is given other sizes in turn. After each, the detector takes `more` frames, and
    the next change falls into their middle; `before` frames were taken at first. So many may get lost."""

    def blow(trial: Trial) -> float:
        blow_at = time.time()
        for step, size in enumerate(sizes):
            trial.wait_for_results(before + step * more - more // 2 - lost)
            words = ["scale", str(trial.run_dir), str(size), "--pool", "work", "--wait", "120"]
            trial.command(*words, timeout_s=130)
            trial.take(more)
        trial.wait_for_results(before + len(sizes) * more - lost)
        return blow_at

    return blow


def stop_rank(pool: str, rank: int, *, for_s: float, after: int = UNDER_WAY) -> Blow:
    """SIGSTOP to a rank, and SIGCONT after a while if there still is such a process."""

    def blow(trial: Trial) -> float:
        trial.wait_for_results(after)
        process = trial.rank(pool, rank)
        blow_at = time.time()
        process.send_signal(signal.SIGSTOP)
        try:
            process.wait(for_s)
        except psutil.TimeoutExpired:
            process.send_signal(signal.SIGCONT)
        return blow_at

    return blow


def kill_allocation(trial: Trial) -> float:
    """SIGKILL to Parsl's manager and everything that it started: what the end of an allocation does."""
    trial.wait_for_results(UNDER_WAY)
    return kill(trial.managers())


def cut_link(*, for_s: float) -> Blow:
    """The cable between beamline and allocation is pulled out, and put back after a while."""

    def blow(trial: Trial) -> float:
        trial.wait_for_results(UNDER_WAY)
        blow_at = time.time()
        trial.cable.set_link("eth0", up=False)
        time.sleep(for_s)
        trial.cable.set_link("eth0", up=True)
        return blow_at

    return blow


def begin_again(frames: int) -> Blow:
    """The detector is restarted when it has taken its frames: ids begin with 1 again."""

    def blow(trial: Trial) -> None:
        trial.take(frames, again=True)

    return blow


def restart_detector(frames: int) -> Blow:
    """SIGKILL to the detector when its frames have come; its next life has ids from 1, too."""

    def blow(trial: Trial) -> None:
        trial.wait_until_taken(timeout_s=60)
        trial.restart_detector()
        time.sleep(CONNECT_S)
        trial.take(frames)

    return blow


def kill_at_random(*, for_s: float, every_s: float, seed: int) -> Blow:
    """SIGKILL to some process of a pool every few seconds."""

    def blow(trial: Trial) -> float | None:
        trial.wait_for_results(UNDER_WAY)
        choice = random.Random(seed)
        last, ends = None, time.monotonic() + for_s
        while time.monotonic() < ends:
            last = kill([choice.choice(trial.ranks("work") + trial.ranks("collect"))])
            time.sleep(choice.uniform(0.5, 1.5) * every_s)
        return last

    return blow
