"""What a run is made of: the part that counts, the program that is followed, the order without time."""

from dataclasses import replace

from cluster_world import ENGINE, one_call, part
from engine_world import STEP_TIME
from hypothesis import given
from hypothesis import strategies as st

from sim.bench.cache_only import single_calls
from sim.bench.gantt import compare, follow
from sim.bench.grid import Grid
from sim.bench.job import Job, Setting
from sim.bench.simulate import simulate
from sim.bench.source import Generated
from sim.bench.window import middle
from sim.cluster import CallRecord, ProgramRecord, Run
from sim.engine import load_profile
from sim.policies.catalogue import POLICIES
from sim.workloads.program import Program, Step

SETTING = Setting(load_profile("llama-3.1-8b-1xh100").engine, replicas=2)


def run_of(count: int) -> Run:
    """Program i starts at i and has i % 5 + 1 calls; they end in the opposite order."""
    run = Run()
    for number in reversed(range(count)):
        steps = tuple(Step(f"s{i}", (part(number, 9),), 1, 99) for i in range(number % 5 + 1))
        program = Program(f"p{number}", "test", float(number), steps)
        run.programs.append(ProgramRecord(program, float(number), 100.0 - number))
        run.calls += [CallRecord(program, step, sent_s=number + 1.0, ended_s=number + 2.0) for step in steps]
    return run


def test_the_first_and_the_last_to_come_do_not_count() -> None:
    counted = middle(run_of(10), warm_up=0.3, cool_down=0.1)
    assert [record.program.id for record in counted.programs] == ["p8", "p7", "p6", "p5", "p4", "p3"]
    assert {call.program.id for call in counted.calls} == {f"p{number}" for number in range(3, 9)}


@given(st.integers(1, 30), st.floats(0, 0.99), st.floats(0, 1))
def test_something_always_counts(count: int, warm_up: float, rest: float) -> None:
    assert middle(run_of(count), warm_up, (1 - warm_up) * rest).programs


def test_the_program_that_is_followed_is_the_same_whatever_the_policy() -> None:
    run = run_of(30)
    upside_down = Run(calls=run.calls[::-1], programs=run.programs[::-1])
    followed = follow(run)
    assert followed["program"] == follow(upside_down)["program"]
    steps = followed["steps"]
    assert len(steps) == 4  # Of 1, 2, 3, 4, 5 steps, alike often: more than three in four have fewer, or as many.
    assert (steps[0]["sent_s"], steps[0]["ended_s"]) == (1.0, 2.0)


def test_two_policies_are_shown() -> None:
    followed = {name: {"program": "p1", "steps": [name]} for name in ("a", "b", "round-robin", "weft")}

    def shown(*best_first: str) -> list[str]:
        return list(compare("w", 0.9, 1, {name: followed[name] for name in best_first}, list(best_first))["policies"])

    assert shown("a", "weft", "b", "round-robin") == ["round-robin", "weft"]
    assert shown("a", "b", "weft") == ["b", "weft"]
    assert shown("a", "round-robin", "b") == ["round-robin", "a"]
    assert shown("round-robin", "a") == ["round-robin", "a"]
    assert shown("a", "b") == ["b", "a"]


def test_without_time_programs_that_run_together_take_turns() -> None:
    first = Step("first", (part(1, 9),), 2, 50)
    then = Step("then", (part(1, 9),), 2, 51, after=("first",), wait_s=10.0)
    slow = Program("slow", "test", 0.0, (first, then))
    between = one_call("between", part(2, 9), arrival_s=5.0)
    ordered = single_calls([slow, between], STEP_TIME)
    assert [(program.id, program.steps[0].name) for program in ordered] == [
        ("slow", "first"),
        ("between", "only"),
        ("slow", "then"),
    ]


def test_single_requests_keep_their_order_without_time() -> None:
    programs = [one_call(name, part(1, 9), arrival_s=float(at)) for at, name in enumerate("xyz")]
    assert single_calls(programs, STEP_TIME) == programs


def test_every_policy_runs_in_time_and_without() -> None:
    source = Generated("pipeline", 2)
    for policy in POLICIES:
        timed = simulate(Job(SETTING, source, policy, 0.9, 1, SETTING.engine.usable_blocks)).row
        untimed = simulate(Job(replace(SETTING, cache_only=True), source, policy, 0.9, 1, None)).row
        assert timed["requests"] == untimed["requests"]
        assert timed["prompt_tokens"] == untimed["prompt_tokens"]


def test_an_oracle_knows_what_clients_do_not_tell() -> None:
    setting = replace(SETTING, replicas=1)
    blocks = setting.engine.max_model_len_tokens // setting.engine.block_size_tokens
    told, untold = (
        simulate(Job(replace(setting, hints=hints), Generated("swarm", 6), "oracle", 5.0, 1, blocks)).row
        for hints in ("full", "none")
    )
    assert told == untold


def test_unbounded_caches_evict_nothing() -> None:
    source = Generated("swarm", 4)
    setting = replace(SETTING, replicas=1)
    rates = [
        simulate(Job(setting, source, "weft", 0.5, 1, blocks)).row["prefix_hit_rate"]
        for blocks in (10_000, None, 10**5)
    ]
    assert rates[0] < rates[1] == rates[2]


def test_the_jobs_of_a_grid() -> None:
    setting = replace(SETTING, engine=replace(ENGINE, num_blocks=401, max_model_len_tokens=400))
    grid = Grid(setting, [Generated("uniform", 2)], ["a", "b"], [1.1, 0.7, 0.9], 2, [400])
    assert len({job.key for job in grid.row_jobs()}) == len(grid.row_jobs()) == 12
    assert grid.report_load == 0.9
    assert [(job.policy, job.cache_blocks, job.load, job.seed) for job in grid.curve_jobs()] == [
        (policy, blocks, 0.9, 1) for blocks in (100, 200, 800, 1600) for policy in "ab"
    ]
    assert [job.key for job in grid.row_jobs() if grid.is_followed(job)] == [
        ("uniform", policy, 0.9, 1, 400) for policy in "ab"
    ]
    roomy = replace(setting, engine=replace(setting.engine, max_model_len_tokens=1000))
    assert {job.cache_blocks for job in replace(grid, setting=roomy).curve_jobs()} == {800, 1600}
    assert not replace(grid, cache_blocks=[400, None]).curve_jobs()
    assert not replace(grid, setting=replace(setting, cache_only=True)).curve_jobs()
