"""The rendezvous as a conversation: who may do what, when."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from msgspec import structs

from beamcast.config.load import LoadedWorkflow
from beamcast.config.site import Site
from beamcast.config.workflow import Metadata, Pool, Results, Source, Workflow
from beamcast.core.ids import ID_BITS
from beamcast.core.lifecycle import RankState
from beamcast.launch.plan import RunPlan
from beamcast.launch.roster import Roster
from beamcast.pva.messages import (
    Heartbeat,
    MemberId,
    MemberState,
    Orders,
    Registration,
    Unwelcome,
    Versions,
    Welcome,
    Whereabouts,
)

VERSIONS = Versions(beamcast="1", python="3", pvapy="5")


def plan(ranks: int = 2, *, results: bool = True, min_ranks: int | None = None) -> RunPlan:
    workflow = Workflow(
        name="w",
        source=Source(channel="det"),
        pools=(
            Pool(name="collect", role="collector", input="work"),
            Pool(name="work", role="consumer", input="source", ranks=ranks, min_ranks=min_ranks),
        ),
        results=Results(pool="collect") if results else None,
    )
    loaded = LoadedWorkflow(workflow=workflow, path=Path("w.toml"), base=Path())
    return RunPlan(run="r", loaded=loaded, site=Site(name="s"))


@dataclass
class Play:
    """A roster and a clock; members speak through it."""

    roster: Roster
    now: float = 0.0
    follows: dict[str, dict[int, int]] = field(default_factory=dict)

    def register(self, member: MemberId, *, size: int = 2, pid: int = 1) -> Welcome | Unwelcome:
        where = Whereabouts(host="h", pid=pid, address="127.0.0.1", port=1, size=size, local_size=size)
        return self.roster.register(
            Registration(member=member, whereabouts=where, versions=VERSIONS), now=self.now
        )

    def beat(
        self,
        member: MemberId,
        state: MemberState,
        *,
        serves: tuple[str, ...] = ("x",),
        problem: str = "",
        sequence: int = 1,
        heard: int = 0,
        renewed: int = 0,
    ) -> Orders | Unwelcome:
        self.now += 0.01
        return self.roster.heartbeat(
            Heartbeat(
                member=member,
                state=state,
                sequence=sequence,
                heard=heard,
                serves=serves,
                follows=self.follows.get(str(member), {}),
                problem=problem,
                renewed=renewed,
            ),
            now=self.now,
        )


MIRROR = MemberId(kind="mirror")
RESULTS = MemberId(kind="results")


def rank(pool: str, number: int, generation: int = 0) -> MemberId:
    return MemberId(kind="rank", pool=pool, rank=number, generation=generation)


def orders(answer: Orders | Unwelcome) -> Orders:
    assert isinstance(answer, Orders), answer
    return answer


def ready_run() -> Play:
    """A run with two consumers and a collector, up to `ready`."""
    play = Play(Roster(plan()))
    for member in (MIRROR, RESULTS, rank("work", 0), rank("work", 1)):
        assert isinstance(play.register(member), Welcome)
    play.register(rank("collect", 0), size=1)
    play.beat(MIRROR, "ready")
    play.beat(rank("work", 0), "serving")
    play.beat(rank("work", 1), "serving")
    play.beat(rank("collect", 0), "serving")
    play.follows["results"] = {0: 0}
    play.beat(RESULTS, "ready")
    play.follows["collect/0"] = {0: 0, 1: 0}
    play.beat(rank("collect", 0), "ready")
    play.beat(rank("work", 0), "ready")
    play.beat(rank("work", 1), "ready")
    assert play.roster.all_ready()
    play.roster.was_ready = True
    return play


def test_nothing_connects_before_what_it_reads_is_served() -> None:
    play = Play(Roster(plan()))
    play.register(MIRROR)
    play.register(rank("work", 0))
    play.register(rank("collect", 0), size=1)
    assert orders(play.beat(rank("work", 0), "registered", serves=())).probe is None
    play.beat(MIRROR, "ready")
    assert orders(play.beat(rank("work", 0), "registered", serves=())).probe is not None
    assert orders(play.beat(rank("collect", 0), "registered", serves=())).probe is None


def test_a_rank_connects_only_when_its_readers_are_there() -> None:
    play = Play(Roster(plan()))
    for member in (MIRROR, RESULTS, rank("work", 0), rank("work", 1)):
        play.register(member)
    play.register(rank("collect", 0), size=1)
    play.beat(MIRROR, "ready")
    play.beat(rank("work", 1), "serving")
    assert orders(play.beat(rank("work", 0), "serving")).connect is None, "nobody reads it yet"
    assert orders(play.beat(rank("collect", 0), "serving")).connect is None, "the results are not served yet"
    play.follows["results"] = {0: 0}
    play.beat(RESULTS, "ready")
    connect = orders(play.beat(rank("collect", 0), "serving")).connect
    assert connect is not None
    assert [(one.channel, one.producer) for one in connect] == [
        ("beamcast:r:work:0:output", 0),
        ("beamcast:r:work:1:output", 1),
    ]
    play.follows["collect/0"] = {0: 0, 1: 0}
    play.beat(rank("collect", 0), "ready")
    assert orders(play.beat(rank("work", 1), "serving")).connect is None, "rank 0 comes first"
    assert orders(play.beat(rank("work", 0), "serving")).connect is not None
    play.beat(rank("work", 0), "ready")
    connect = orders(play.beat(rank("work", 1), "serving")).connect
    assert connect is not None
    assert "pydistributor=group:" in connect[0].request
    assert "trigger:uniqueId" in connect[0].request


def test_ready_means_everyone() -> None:
    play = ready_run()
    assert play.roster.waiting_for() == []
    play.beat(rank("work", 1), "serving")
    assert not play.roster.all_ready()
    assert play.roster.waiting_for() == ["work/1 (serving)"]


def test_a_restarted_rank_waits_for_its_reader_but_not_for_its_turn() -> None:
    play = ready_run()
    play.roster.died(play.roster.members["work/1"], now=play.now, reason="killed")
    again = rank("work", 1, generation=1)
    assert isinstance(play.register(again), Welcome)
    collector = orders(play.beat(rank("collect", 0), "ready"))
    assert collector.connect is not None
    assert [one.generation for one in collector.connect] == [0, 0], "the new output is not served yet"
    assert orders(play.beat(again, "serving")).connect is None, "the collector still follows the dead one"
    collector = orders(play.beat(rank("collect", 0), "ready"))
    assert collector.connect is not None
    assert [one.generation for one in collector.connect] == [0, 1]
    play.follows["collect/0"] = {0: 0, 1: 1}
    play.beat(rank("collect", 0), "ready")
    assert orders(play.beat(again, "serving")).connect is not None


def test_a_rank_does_not_wait_for_a_dead_reader_once_the_run_was_ready() -> None:
    play = ready_run()
    play.roster.died(play.roster.members["work/1"], now=play.now, reason="killed")
    play.roster.died(play.roster.members["collect/0"], now=play.now, reason="killed")
    again = rank("work", 1, generation=1)
    play.register(again)
    assert orders(play.beat(again, "serving")).connect is not None


def test_silence_is_noticed_and_the_silent_are_sent_away() -> None:
    play = ready_run()
    heard = play.now
    play.now += 3.0
    play.beat(rank("work", 0), "ready")
    silent = {str(record.identity) for record in play.roster.silent(now=play.now, silence_s=2.0)}
    assert silent == {"mirror", "results", "work/1", "collect/0"}
    assert play.roster.silent(now=heard, silence_s=2.0) == []
    play.roster.died(play.roster.members["work/1"], now=play.now, reason="no heartbeat for 2 s")
    answer = play.beat(rank("work", 1), "ready")
    assert isinstance(answer, Unwelcome)
    assert "no heartbeat for 2 s" in answer.reason


def test_a_rank_that_was_only_silent_comes_back_where_nobody_has_taken_its_place() -> None:
    play = ready_run()
    record = play.roster.ranks["work"][1]
    play.roster.died(record, now=play.now, reason="no heartbeat for 5 s", only_silent=True)
    assert not record.live
    orders(play.beat(rank("work", 1), "ready"))
    assert record.usable
    assert record.deaths == ["no heartbeat for 5 s; it came back"]
    # Whoever ended it knows better.
    play.roster.died(record, now=play.now, reason="its process ended")
    assert isinstance(play.beat(rank("work", 1), "ready"), Unwelcome)


def test_a_silent_rank_that_was_replaced_does_not_come_back() -> None:
    play = ready_run()
    record = play.roster.ranks["work"][1]
    play.roster.died(record, now=play.now, reason="no heartbeat for 5 s", only_silent=True)
    assert isinstance(play.register(rank("work", 1, 1)), Welcome)
    assert isinstance(play.beat(rank("work", 1), "ready"), Unwelcome)


def test_only_one_process_may_be_a_rank() -> None:
    play = ready_run()
    answer = play.register(rank("work", 1), pid=2)
    assert isinstance(answer, Unwelcome)
    assert "already running" in answer.reason


def test_who_asks_again_since_the_answer_got_lost_is_welcome() -> None:
    play = Play(Roster(plan()))
    first = play.register(rank("work", 1))
    assert isinstance(first, Welcome)
    assert play.register(rank("work", 1)) == first


def test_strangers_and_other_versions_are_unwelcome() -> None:
    play = Play(Roster(plan()))
    assert isinstance(play.register(rank("work", 7)), Unwelcome)
    assert isinstance(play.register(rank("nope", 0)), Unwelcome)
    old = Versions(beamcast="0", python="3", pvapy="5", protocol=0)
    where = Whereabouts(host="h", pid=1, address="a", port=1)
    answer = play.roster.register(Registration(member=MIRROR, whereabouts=where, versions=old), now=0.0)
    assert isinstance(answer, Unwelcome)
    assert "same beamcast" in answer.reason


def test_a_member_that_fails_is_a_problem_with_a_reason() -> None:
    play = ready_run()
    play.beat(rank("work", 0), "failed", problem="no GPU")
    (record,) = play.roster.problems()
    assert record.life.state is RankState.FAILED
    assert record.problem == "no GPU"


def test_a_pool_that_a_rank_leaves_before_the_end_keeps_no_turns() -> None:
    play = ready_run()
    play.beat(rank("work", 1), "finished")
    assert play.roster.reshaped == {"work"}
    at_the_end = ready_run()
    at_the_end.roster.drain = True
    at_the_end.beat(rank("work", 1), "finished")
    assert at_the_end.roster.reshaped == set()


def test_the_end_is_when_everyone_has_finished() -> None:
    play = ready_run()
    play.roster.stop = True
    for member in (MIRROR, RESULTS, rank("work", 0), rank("work", 1)):
        answer = play.beat(member, "ready")
        assert orders(answer).stop
        play.beat(member, "finished")
    assert not play.roster.all_gone()
    play.beat(rank("collect", 0), "finished")
    assert play.roster.all_gone()


@pytest.mark.parametrize("ranks", [1, 3, 8])
def test_slots_are_ranks_under_policy_each(ranks: int) -> None:
    play = Play(Roster(plan(ranks)))
    for number in range(ranks):
        where = Whereabouts(
            host="h", pid=1, address="a", port=1, size=ranks, local_rank=number, local_size=ranks
        )
        welcome = play.roster.register(
            Registration(member=rank("work", number), whereabouts=where, versions=VERSIONS), now=0.0
        )
        assert isinstance(welcome, Welcome)
        assert welcome.duty is not None
        assert welcome.duty.slot == number


def begun_with_one_of_two() -> Play:
    """A run that needs one of two consumers: work/1 has come, work/0 has not."""
    play = Play(Roster(plan(min_ranks=1)))
    for member in (MIRROR, RESULTS, rank("work", 1), rank("collect", 0)):
        assert isinstance(play.register(member), Welcome)
    play.beat(MIRROR, "ready")
    play.beat(rank("work", 1), "serving")
    play.beat(rank("collect", 0), "serving")
    play.follows["results"] = {0: 0}
    play.beat(RESULTS, "ready")
    return play


def test_a_run_begins_with_as_many_ranks_as_it_needs() -> None:
    play = begun_with_one_of_two()
    read = orders(play.beat(rank("collect", 0), "serving")).connect
    assert read is not None
    assert [one.producer for one in read] == [1], "nobody waits for what is not served"
    play.follows["collect/0"] = {1: 0}
    play.beat(rank("collect", 0), "ready")
    assert orders(play.beat(rank("work", 1), "serving")).connect is not None, "its turn does not wait either"
    assert not play.roster.all_ready()
    play.beat(rank("work", 1), "ready")
    assert play.roster.all_ready()


def test_without_min_ranks_all_are_waited_for() -> None:
    play = Play(Roster(plan()))
    for member in (MIRROR, RESULTS, rank("work", 1), rank("collect", 0)):
        play.register(member)
    play.beat(MIRROR, "ready")
    play.beat(rank("work", 1), "serving")
    assert orders(play.beat(rank("collect", 0), "serving")).connect is None
    assert not play.roster.all_ready()


def test_a_late_rank_joins_when_its_readers_receive_it() -> None:
    play = begun_with_one_of_two()
    play.follows["collect/0"] = {1: 0}
    play.beat(rank("collect", 0), "ready")
    play.beat(rank("work", 1), "ready")
    play.roster.was_ready = True
    assert isinstance(play.register(rank("work", 0)), Welcome)
    assert not play.roster.all_ready()
    assert orders(play.beat(rank("work", 0), "serving")).connect is None, (
        "the collector does not receive it yet"
    )
    read = orders(play.beat(rank("collect", 0), "ready")).connect
    assert read is not None
    assert [one.producer for one in read] == [0, 1]
    play.follows["collect/0"] = {0: 0, 1: 0}
    play.beat(rank("collect", 0), "ready")
    assert orders(play.beat(rank("work", 0), "serving")).connect is not None


def test_a_rank_that_comes_in_time_is_waited_for_all_the_same() -> None:
    play = begun_with_one_of_two()
    play.register(rank("work", 0))
    assert orders(play.beat(rank("collect", 0), "serving")).connect is None
    play.beat(rank("work", 0), "serving")
    read = orders(play.beat(rank("collect", 0), "serving")).connect
    assert read is not None
    assert [one.producer for one in read] == [0, 1]


def test_inputs_are_told_again_until_the_answer_has_been_heard_and_then_only_as_news() -> None:
    play = ready_run()
    collect = rank("collect", 0)
    first = orders(play.beat(collect, "ready", sequence=7, heard=0))
    assert first.probe is not None
    assert first.connect is not None
    lost = orders(play.beat(collect, "ready", sequence=8, heard=6))
    assert (lost.probe, lost.connect) == (first.probe, first.connect), "the answer to 7 may have been lost"
    heard = orders(play.beat(collect, "ready", sequence=9, heard=8))
    assert (heard.probe, heard.connect) == (None, None)
    play.roster.died(play.roster.members["work/1"], now=play.now, reason="killed")
    again = rank("work", 1, generation=1)
    assert isinstance(play.register(again), Welcome)
    play.beat(again, "serving")
    news = orders(play.beat(collect, "ready", sequence=10, heard=9))
    assert news.connect is not None
    assert [one.generation for one in news.connect] == [0, 1]


def test_ranks_monitor_a_record_of_the_mirror_anew_that_was_made_anew() -> None:
    play = ready_run()
    first = orders(play.beat(rank("work", 0), "running", sequence=90)).connect
    assert first is not None
    assert first[0].renewed == 0
    play.beat(MIRROR, "ready", sequence=90, renewed=1)
    anew = orders(play.beat(rank("work", 0), "running", sequence=91)).connect
    assert anew is not None
    assert anew[0].renewed == 1
    assert (anew[0].channel, anew[0].request) == (first[0].channel, first[0].request)


def test_ranks_stay_with_a_mirror_that_was_started_again() -> None:
    """Their monitors are taken up again by themselves; a second one would have a turn beside the first."""
    play = ready_run()
    play.beat(MIRROR, "ready", sequence=90, renewed=1)
    before = orders(play.beat(rank("work", 0), "running", sequence=90)).connect
    play.roster.died(play.roster.members["mirror"], now=play.now, reason="killed")
    reborn = MemberId(kind="mirror", generation=1)
    play.register(reborn)
    play.beat(reborn, "ready")
    assert orders(play.beat(rank("work", 0), "running", sequence=91)).connect == before


def test_the_next_metadata_member_counts_on_from_the_dead_one_in_the_epoch_of_the_run() -> None:
    workflow = plan().workflow
    with_metadata = structs.replace(workflow, metadata=(Metadata(name="m", channel="m", tolerance=0.1),))
    loaded = LoadedWorkflow(workflow=with_metadata, path=Path("w.toml"), base=Path())
    play = Play(Roster(RunPlan(run="r", loaded=loaded, site=Site(name="s"))))
    first, second = (MemberId(kind="metadata", generation=number) for number in range(2))
    play.register(MIRROR)
    play.register(first)
    play.roster.heartbeat(
        Heartbeat(member=MIRROR, sequence=1, state="ready", last_key=(3 << ID_BITS) + 7), now=1.0
    )
    play.register(rank("work", 0))
    assert orders(play.beat(rank("work", 0), "registered", serves=())).probe is None
    told = play.roster.heartbeat(
        Heartbeat(member=first, sequence=1, state="ready", facts={"matched:m": 5.0}, serves=("md",)), now=1.1
    )
    assert orders(told).epoch == 3
    record = play.roster.members["metadata"]
    assert record.counted("matched:m") == 5
    play.roster.died(record, now=1.2, reason="killed")
    # Ranks do not wait for the next one.
    assert orders(play.beat(rank("work", 0), "registered", serves=())).probe is not None
    play.register(second)
    assert record.counted("matched:m") == 5
    play.roster.heartbeat(
        Heartbeat(member=second, sequence=1, state="ready", facts={"matched:m": 2.0}), now=1.4
    )
    assert record.counted("matched:m") == 7


def test_ranks_of_an_allocation_that_was_given_up_are_not_taken_for_those_of_the_next() -> None:
    """I3: they registered once more, and the new rank was told that it was running already."""
    play = ready_run()
    record = play.roster.members["work/1"]
    play.roster.died(record, now=play.now, reason="its allocation is given up")
    record.least_generation = 4
    refused = play.register(rank("work", 1, 1))
    assert isinstance(refused, Unwelcome)
    assert "is started in another" in refused.reason
    assert isinstance(play.register(rank("work", 1, 4)), Welcome)


def test_scale_starts_ranks_that_were_stopped_or_have_died_for_good() -> None:
    """P14: after `control stop --rank 1` a pool of two had as many as it was to have."""
    play = ready_run()
    play.beat(rank("work", 1), "finished")
    coming, leaving = play.roster.scale(plan(), "work", 2)
    assert (coming, leaving) == ({("work", 1): 1}, [])
    play.register(rank("work", 1, 1))
    record = play.roster.members["work/0"]
    play.roster.died(record, now=play.now, reason="its process ended")
    assert play.roster.scale(plan(), "work", 2) == ({}, []), "its keeper may start it again"
    record.given_up = True
    assert play.roster.scale(plan(), "work", 2) == ({("work", 0): 1}, [])
