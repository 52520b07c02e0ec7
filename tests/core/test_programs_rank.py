"""Upward ranks and sums are kept step by step; recomputed from scratch they come out the same, whatever happens."""

from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.programs.declare import DeclarationError, read_declaration
from router.core.programs.step import State
from router.core.programs.table import ProgramTable, TableLimits
from router.core.rates import FleetRates
from router.core.types import Outcome, ProgramHint, Prompt, Request, Usage

PREFILL = 10_000.0
TOKEN_S = 0.02
KEY = ("t", "p")

graphs = st.integers(1, 12).flatmap(
    lambda size: st.tuples(*(st.sets(st.integers(0, number - 1) if number else st.nothing()) for number in range(size)))
)
names = st.sampled_from([f"s{number}" for number in range(14)])
hints = st.builds(
    ProgramHint,
    id=st.just("p"),
    step=names | st.just(""),
    after=st.lists(names, max_size=3).map(tuple),
    join=st.just("") | names | st.sampled_from(["j", "k"]),
    width=st.integers(0, 5),
    remaining_steps=st.none() | st.integers(0, 9),
    output_tokens=st.none() | st.integers(0, 500),
    final=st.sampled_from([False, False, False, True]),
)
events = st.lists(
    st.tuples(
        st.sampled_from(["come", "come", "dispatch", "start", "end", "end", "fail", "gone", "withdraw", "declare"]),
        st.integers(0, 20),
        hints,
    ),
    max_size=40,
)


def declaration(graph):
    steps = [
        {"name": f"s{number}", "after": [f"s{before}" for before in sorted(after)], "tool_ms": 1000 * (number % 3)}
        for number, after in enumerate(graph)
    ]
    return read_declaration({"steps": steps})


@settings(deadline=None)
@given(graph=graphs, declared_first=st.booleans(), happening=events)
def test_what_is_kept_is_what_comes_out_from_scratch(graph, declared_first, happening):
    table = ProgramTable(FleetRates(PREFILL))
    if declared_first:
        table.declare(KEY, declaration(graph), 0.0)
    for program in happens(table, graph, happening):
        check(program)


@settings(deadline=None)
@given(graph=graphs, happening=events)
def test_a_program_that_may_have_few_steps_keeps_to_it_and_counts_what_is_open(graph, happening):
    table = ProgramTable(FleetRates(PREFILL), TableLimits(max_steps=5))
    for program in happens(table, graph[:5], happening):
        assert len(program.steps) <= 5 + 1 + len(program.joins), "five, and what joins are waited for by"
        assert program.waiting >= 0
        assert program.running >= 0
        assert 0.0 <= program.remaining_path_s < 1e6
        assert 0.0 <= program.remaining_work_s < 1e6


def happens(table, graph, happening):
    """Tells the table; yields the program after each event."""
    came = []
    for number, (what, which, hint) in enumerate(happening):
        now = float(number)
        if what == "come":
            request = Request(f"r{which}", "m", tenant="t", session_id="p", program=hint, max_tokens=1000)
            came.append(table.observe(request, now))
        elif what == "declare":
            with suppress(DeclarationError):
                table.declare(KEY, declaration(graph), now)
        elif came:
            step = came[which % len(came)]
            if what == "dispatch":
                table.dispatched(step, 0, now)
            elif what == "start":
                table.started(step, now)
            elif what == "withdraw":
                table.withdrawn(step, now)
            else:
                outcome = {"end": Outcome.OK, "fail": Outcome.FAILED, "gone": Outcome.CLIENT_GONE}[what]
                table.ended(step, Usage(100, 0, 50), outcome, now)
        program = table.get(KEY)
        if program is not None:
            yield program


def check(program):
    steps = list(program.steps.values())
    paths = {}
    for step in steps:
        assert path_from_scratch(step, paths, ()) == pytest.approx(step.path_s, abs=1e-9)
        assert all(step in follower.waits_for for follower in step.followers)
        assert all(step in before.followers for before in step.waits_for)
        assert not (step.state.open and step.waits_for), "what has come waits for nobody"
        assert step.path_s == 0.0 or step.state is not State.DONE or step in program.loose
    assert program.remaining_path_s == pytest.approx(max(paths.values(), default=0.0))
    assert program.known_s == pytest.approx(sum(step.time_s for step in steps), abs=1e-9)
    assert program.tails.top() == max((step.tail_calls for step in steps), default=0.0)
    assert program.missing == sum(join.counted for join in program.joins.values())
    states = [step.state for step in steps]
    assert program.expected == states.count(State.EXPECTED)
    assert program.waiting == states.count(State.WAITING)
    assert program.running == states.count(State.RUNNING)


def path_from_scratch(step, paths, above):
    assert step not in above, "a cycle"
    if step not in paths:
        ahead_s = [path_from_scratch(follower, paths, (*above, step)) for follower in step.followers]
        paths[step] = step.wait_s + step.time_s + max([step.tail_s, *ahead_s])
    return paths[step]


@settings(deadline=None)
@given(graph=graphs, data=st.data())
def test_a_declared_graph_that_runs_as_declared_has_the_longest_path_of_what_is_left(graph, data):
    size = len(graph)
    prompts = data.draw(st.lists(st.integers(0, 50_000), min_size=size, max_size=size))
    answers = data.draw(st.lists(st.integers(1, 2_000), min_size=size, max_size=size))
    tools_ms = data.draw(st.lists(st.integers(0, 30_000), min_size=size, max_size=size))
    document = {
        "steps": [
            {
                "name": f"s{number}",
                "after": [f"s{before}" for before in sorted(after)],
                "prompt_tokens": prompts[number],
                "output_tokens": answers[number],
                "tool_ms": tools_ms[number],
            }
            for number, after in enumerate(graph)
        ]
    }
    table = ProgramTable(FleetRates(PREFILL))
    program = table.declare(("", "p"), read_declaration(document), 0.0)
    left = set(range(size))
    came = {}
    while left:

        def call_s(number):
            return prompts[number] / PREFILL + answers[number] * TOKEN_S if number in left else 0.0

        def path_s(number):
            followers = [path_s(each) for each in range(size) if number in graph[each]]
            wait_s = 0.0 if number in came else tools_ms[number] / 1000
            return wait_s + call_s(number) + max(followers, default=0.0)

        assert program.remaining_path_s == pytest.approx(max(path_s(number) for number in left))
        assert program.remaining_work_s == pytest.approx(sum(call_s(number) for number in left))
        for number, step in came.items():
            assert program.rank_s(step) == pytest.approx(path_s(number) if number in left else 0.0)
        ready = sorted(number for number in left if not graph[number] & left and number not in came)
        running = sorted(number for number in left if number in came)
        number = data.draw(st.sampled_from(ready + running))
        if number in ready:
            came[number] = table.observe(call(number, prompts[number]), 0.0)
        else:
            table.dispatched(came[number], 0, 0.0)
            table.ended(came[number], Usage(prompts[number], 0, answers[number]), Outcome.OK, 0.0)
            left.remove(number)
    assert program.remaining_path_s == program.remaining_work_s == program.remaining_calls == 0.0


def call(number, prompt_tokens):
    prompt = Prompt(np.zeros(prompt_tokens, np.uint32))
    return Request(f"r{number}", "m", prompt, program=ProgramHint("p", f"s{number}"))
