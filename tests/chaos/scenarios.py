"""The scenarios of the suite."""

from chaos import blows, stages
from chaos.load import RESULT, Load
from chaos.scenario import Outcome, Scenario, nothing_lost

POISON = 1234
# Eight frames come in 27 ms: most stacks are full.
STACKS = {"batch": 8, "batch_wait": "40 ms"}
RATE_HZ = 300.0
HEARTBEAT_S = 1.0


def failed_is_named(outcome: Outcome) -> list[str]:
    """The poison frame, and no other, has no result; the report names it, and its payload is kept."""
    came = {result.frame_id for result in outcome.results}
    missing = sorted(set(outcome.sent) - came)
    problems = [] if missing == [POISON] else [f"without result: {missing[:5]}"]
    if outcome.named_failed() != [POISON]:
        problems.append(f"named as failed: {outcome.named_failed()[:5]}")
    if not list(outcome.run_dir.glob(f"**/{POISON}.frame")):
        problems.append("the poison frame was not kept")
    return problems


def lost_is_named(outcome: Outcome) -> list[str]:
    """Frames were lost, as the policy says, and the report names exactly those."""
    came = {result.frame_id for result in outcome.results}
    missing = sorted(set(outcome.sent) - came)
    if not missing:
        return ["nothing was lost: the scenario did not fill the buffer"]
    return (
        [] if outcome.named_lost() == missing else [f"lost {len(missing)}, named {len(outcome.named_lost())}"]
    )


def any_loss_is_named(outcome: Outcome) -> list[str]:
    """Frames may be lost; the report names exactly those."""
    came = {result.frame_id for result in outcome.results}
    missing = sorted(set(outcome.sent) - came)
    named = outcome.named_lost()
    return [] if named == missing else [f"lost {len(missing)}, named {len(named)}"]


def all_lost_are_named(outcome: Outcome) -> list[str]:
    """Frames were lost, and named. So were results that came, and of which the killed process had not told yet."""
    came = {result.frame_id for result in outcome.results}
    missing, named = set(outcome.sent) - came, set(outcome.named_lost())
    problems = [] if missing else ["nothing was lost: the blow hurt nobody"]
    problems += [f"not named: {sorted(missing - named)[:5]}"] if missing - named else []
    surplus = len(named - missing)
    return problems + ([f"{surplus} came and are named as lost"] if surplus > HEARTBEAT_S * RATE_HZ else [])


# The data distributor may leave out some frames when a rank joins: up to 9 have been seen, and four join.
LOST_BY_SCALING = 36


def few_lost(outcome: Outcome) -> list[str]:
    """No more than a few frames for each rank that came."""
    lost = len(set(outcome.sent) - {result.frame_id for result in outcome.results})
    return [f"lost {lost}"] if lost > LOST_BY_SCALING else []


# Results that were published in the instant in which the result server was killed, and on their way to the client.
ON_THEIR_WAY = 5
# The result that the result server had published and not yet noted when it was killed.
PUBLISHED_LAST = 1
# Ranks of the dead controller have nothing more in hand by then, and those of the next one are not there yet.
SOME_S = 3.0


def one_report_has_all(outcome: Outcome) -> list[str]:
    """The report of a resumed run knows every frame; nothing that came is named as lost, but for the last result before
    the kill, and what did not come is."""
    frames, came = outcome.report["frames"], {result.frame_id for result in outcome.results}
    named = set(outcome.named_lost())
    unnamed = sorted(set(outcome.sent) - came - named)
    surplus = sorted(named & came)
    problems = [] if frames["source"] == len(outcome.sent) else [f"knows of {frames['source']} frames"]
    problems += [f"came and named as lost: {surplus[:5]}"] if len(surplus) > PUBLISHED_LAST else []
    problems += (
        [] if _was_on_disk(outcome) else ["nothing came that was on disk when the controller was killed"]
    )
    problems += [f"neither came nor named: {unnamed[:10]}"] if len(unnamed) > ON_THEIR_WAY else []
    return problems + ([] if outcome.report["resumed"] == 1 else ["was not resumed"])


def _was_on_disk(outcome: Outcome) -> list[int]:
    """Frames that came before the blow and whose results were made by the ranks of the resumed run."""
    assert outcome.blow_at is not None
    made_later = [result for result in outcome.results if result.made_at > outcome.blow_at + SOME_S]
    return [result.frame_id for result in made_later if result.taken_at < outcome.blow_at]


def four_ranks_work(outcome: Outcome) -> list[str]:
    """Of the ranks that were added and removed, four are left, and each that was ever there has worked."""
    ranks = next(pool["ranks"] for pool in outcome.report["pools"] if pool["name"] == "work")
    present = [rank["rank"] for rank in ranks if rank["state"] != "left"]
    idle = [rank["rank"] for rank in ranks if not rank["processed"]]
    problems = [f"present: {present}"] if present != [0, 1, 2, 3] else []
    return problems + ([f"without work: {idle}"] if idle else [])


FAST = (
    Scenario(name="kill one of 3 consumers", load=Load(seconds=8), blow=blows.kill_ranks("work", [1])),
    Scenario(name="kill the collector", load=Load(seconds=8), blow=blows.kill_ranks("collect", [0])),
    Scenario(
        name="kill a consumer of stacks",
        load=Load(seconds=8, consumers=STACKS),
        blow=blows.kill_ranks("work", [1]),
    ),
    Scenario(
        name="poison frame",
        load=Load(seconds=10, work={"abort_id": POISON}),
        blow=blows.none,
        judges=(failed_is_named,),
    ),
    Scenario(
        name="kill a consumer for good, then the collector",
        load=Load(seconds=10, consumers={"restart": {"max_restarts": 0, "on_exhausted": "go-on"}}),
        blow=blows.kill_for_good,
    ),
    Scenario(name="kill the name server, then others", load=Load(seconds=8), blow=blows.kill_name_server),
)

MIRROR_ONCE = Scenario(
    name="kill the mirror, at most once",
    load=Load(seconds=8, delivery="at-most-once"),
    blow=blows.kill_member("mirror", "--kind=mirror"),
    judges=(lost_is_named,),
    status=None,
)

SCALED_ONCE = Scenario(
    name="scaled, at most once",
    load=Load(seconds=4, delivery="at-most-once"),
    blow=blows.scale(5, 2, 4, before=round(4 * RATE_HZ), more=900, lost=LOST_BY_SCALING),
    sent=lambda load: range(1, load.frames + 3 * 900 + 1),
    judges=(any_loss_is_named, few_lost, four_ranks_work),
    status=None,
)

RESUMED = Scenario(
    name="kill the controller, resume",
    load=Load(seconds=16, work={"work_s": 0.014}, mirror={"replay": "8 MiB", "overflow": "spill"}),
    blow=blows.kill_controller,
    judges=(one_report_has_all,),
    status=3,
)

SUITE = (
    *FAST,
    Scenario(
        name="poison frame in a stack",
        load=Load(seconds=10, work={"abort_id": POISON}, consumers=STACKS),
        blow=blows.none,
        judges=(failed_is_named,),
    ),
    Scenario(name="kill all consumers but one", load=Load(seconds=8), blow=blows.kill_ranks("work", [1, 2])),
    Scenario(name="stop a consumer for 3 s", load=Load(seconds=12), blow=blows.stop_rank("work", 1, for_s=3)),
    Scenario(
        name="stop a consumer for 20 s", load=Load(seconds=26), blow=blows.stop_rank("work", 1, for_s=20)
    ),
    Scenario(
        name="one consumer 20 times slower",
        load=Load(seconds=8, work={"work_s": 0.002, "slow_rank": 1, "slow_factor": 20.0}),
        blow=blows.none,
    ),
    Scenario(
        name="processor raises",
        load=Load(seconds=8, work={"raise_id": POISON}),
        blow=blows.none,
        judges=(failed_is_named,),
    ),
    Scenario(
        name="overload, policy drop",
        load=Load(seconds=6, work={"work_s": 0.02}, mirror={"replay": "16 MiB"}),
        blow=blows.none,
        judges=(lost_is_named,),
        status=3,
    ),
    Scenario(
        name="overload, policy spill",
        load=Load(seconds=6, work={"work_s": 0.02}, mirror={"replay": "32 MiB", "overflow": "spill"}),
        blow=blows.none,
    ),
    Scenario(
        name="overload, spill, disk full",
        load=Load(seconds=6, work={"work_s": 0.02}, mirror={"replay": "16 MiB", "overflow": "spill"}),
        blow=blows.none,
        judges=(lost_is_named,),
        status=3,
        stage=stages.small_disk,
        absent=stages.no_mount,
    ),
    Scenario(
        name="the detector begins again",
        load=Load(seconds=4),
        blow=blows.begin_again(round(4 * RATE_HZ)),
        sent=lambda load: [*range(1, load.frames + 1), *range(1, load.frames + 1)],
    ),
    Scenario(
        name="the detector is killed and restarted",
        load=Load(seconds=4),
        blow=blows.restart_detector(round(4 * RATE_HZ)),
        sent=lambda load: [*range(1, load.frames + 1), *range(1, load.frames + 1)],
        stage=stages.name_server,
    ),
    Scenario(
        name="scaled from 3 ranks to 5, to 2, to 4",
        load=Load(seconds=4),
        blow=blows.scale(5, 2, 4, before=round(4 * RATE_HZ), more=900),
        sent=lambda load: range(1, load.frames + 3 * 900 + 1),
        judges=(nothing_lost, four_ranks_work),
    ),
    SCALED_ONCE,
    Scenario(
        name="kill the mirror",
        load=Load(seconds=10),
        blow=blows.kill_member("dispatcher.mirror"),
        judges=(any_loss_is_named,),
        status=None,
    ),
    MIRROR_ONCE,
    Scenario(
        name="kill the mirror of the results, at most once",
        load=Load(
            seconds=10,
            delivery="at-most-once",
            top={"results": {"pool": "collect", "channel": RESULT, "by": "mirror"}},
        ),
        blow=blows.kill_member("mirror", "--kind=results"),
        judges=(all_lost_are_named,),
        status=None,
    ),
    RESUMED,
    Scenario(name="kill the result server", load=Load(seconds=10), blow=blows.kill_member("results")),
    Scenario(
        name="kill the server of pushed results",
        load=Load(seconds=10, top={"results": {"pool": "collect", "channel": RESULT, "by": "push"}}),
        blow=blows.kill_member("pushed"),
    ),
    Scenario(
        name="the allocation is killed",
        load=Load(seconds=24, mirror={"replay": "1 GiB"}),
        blow=blows.kill_allocation,
        stage=stages.replacements,
    ),
    Scenario(
        name="the link is cut for 10 s",
        load=Load(seconds=32, restarts=20, mirror={"replay": "1 GiB"}),
        blow=blows.cut_link(for_s=10),
        stage=stages.two_hosts,
        absent=stages.no_networks,
    ),
)


def suite(*, minutes: float) -> tuple[Scenario, ...]:
    """All scenarios; `minutes` is how long processes are killed at random in the last one."""
    for_s = 60 * minutes
    random_kills = Scenario(
        name=f"random kills for {minutes:g} min",
        load=Load(seconds=for_s + 8, restarts=1000),
        blow=blows.kill_at_random(for_s=for_s, every_s=5.0, seed=1),
    )
    return (*SUITE, random_kills)
