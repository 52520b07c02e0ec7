"""Programs of the simulator's workloads, told to the table as they would happen on a fleet that is never short of
room: what is expected to be left comes close to what is left.

What is left in truth is known: each call takes its uncached prompt tokens and its output tokens at fixed rates, and
each tool wait is the workload's. A prompt's tokens are cached if an earlier prompt of the program began with them.
"""

import heapq
from itertools import count
from statistics import median

import numpy as np
import pytest

from router.core.programs.declare import read_declaration
from router.core.programs.table import ProgramTable
from router.core.rates import FleetRates
from router.core.types import Outcome, ProgramHint, Prompt, Request, Usage
from sim.workloads.hints import make_hint
from sim.workloads.prefixes import PrefixTree
from sim.workloads.registry import make_workload

TOKENS_PER_S = 20_000.0
TOKEN_S = 0.015
EVERY_S = 40.0
"""A program begins so long after the one before."""


class Truth:
    """One program: what each call takes, and what is left at any time."""

    def __init__(self, program):
        self.program = program
        self.followers = {step.name: [] for step in program.steps}
        self.new_tokens, self.call_s, self.path_s = {}, {}, {}
        seen = PrefixTree()
        for step in program.steps:
            self.new_tokens[step.name] = seen.add(step.parts)
            self.call_s[step.name] = self.new_tokens[step.name] / TOKENS_PER_S + step.output_tokens * TOKEN_S
            for name in step.after:
                self.followers[name].append(step)
        for step in reversed(program.steps):
            ahead_s = [each.wait_s + self.path_s[each.name] for each in self.followers[step.name]]
            self.path_s[step.name] = self.call_s[step.name] + max(ahead_s, default=0.0)
        self.left = dict.fromkeys(self.call_s)
        self.came = set()

    def ready_after(self, step):
        return [each for each in self.followers[step.name] if not self.left.keys() & set(each.after)]

    def remaining_work_s(self):
        return sum(self.call_s[name] for name in self.left)

    def remaining_path_s(self):
        waiting = [
            (0.0 if step.name in self.came else step.wait_s) + self.path_s[step.name]
            for step in self.program.steps
            if step.name in self.left and not self.left.keys() & set(step.after)
        ]
        return max(waiting, default=0.0)


def replay(programs, hint, before=lambda table, truth, now: None):
    """(number of the program, expected path, path, expected work, work) at the coming of each call."""
    table = ProgramTable(FleetRates(TOKENS_PER_S))
    order, events, seen = count(), [], []

    def at(now, what, *about):
        heapq.heappush(events, (now, next(order), what, about))

    def begin(now, number, truth):
        before(table, truth, now)
        for step in truth.program.steps:
            if not step.after:
                at(now, come, number, truth, step)

    def come(now, number, truth, step):
        truth.came.add(step.name)
        prompt = Prompt(np.zeros(step.prompt_tokens, np.uint32))
        request = Request(f"{number}/{step.name}", "m", prompt, max_tokens=4096, streams=True)
        hint(request, truth.program, step)
        place = table.observe(request, now)
        program = place.program
        seen.append(
            (
                number,
                program.remaining_path_s,
                truth.remaining_path_s(),
                program.remaining_work_s,
                truth.remaining_work_s(),
            )
        )
        table.dispatched(place, step.prompt_tokens - truth.new_tokens[step.name], now)
        at(now + truth.new_tokens[step.name] / TOKENS_PER_S + TOKEN_S, start, place)
        at(now + truth.call_s[step.name], end, number, truth, step, place)

    def start(now, place):
        table.started(place, now)

    def end(now, number, truth, step, place):
        cached_tokens = step.prompt_tokens - truth.new_tokens[step.name]
        table.ended(place, Usage(step.prompt_tokens, cached_tokens, step.output_tokens), Outcome.OK, now)
        del truth.left[step.name]
        for follower in truth.ready_after(step):
            at(now + follower.wait_s, come, number, truth, follower)
        if not truth.left:
            assert place.program.open == 0
            assert place.program.calls == len(truth.program.steps)

    for number, program in enumerate(programs):
        at(EVERY_S * number, begin, number, Truth(program))
    while events:
        now, _, what, about = heapq.heappop(events)
        what(now, *about)
    return table, np.array(seen)


def once_known(seen):
    """Without the programs from which is learned how their classes are."""
    return seen[seen[:, 0] >= 10, 1:].T


def rank_correlation(left, right):
    return np.corrcoef(np.argsort(np.argsort(left)), np.argsort(np.argsort(right)))[0, 1]


def only_names(request, program, step):
    request.tenant = program.tenant
    request.program = ProgramHint(program.id, step.name)


def declare(table, truth, now):
    steps = [
        {
            "name": step.name,
            "after": list(step.after),
            "prompt_tokens": step.prompt_tokens,
            "output_tokens": step.output_tokens,
            "tool_ms": 1000 * step.wait_s,
        }
        for step in truth.program.steps
    ]
    key = truth.program.tenant, truth.program.id
    table.declare(key, read_declaration({"class": truth.program.kind, "steps": steps}), now)


@pytest.mark.parametrize("workload", ["tot", "swarm", "pipeline", "react", "mixed"])
def test_a_declared_program_is_known_almost_to_the_second(workload):
    table, seen = replay(make_workload(workload, 1, 30), only_names, declare)
    expected_path_s, path_s, expected_work_s, work_s = once_known(seen)
    assert median(abs(expected_path_s - path_s) / path_s) < 0.1
    assert rank_correlation(expected_path_s, path_s) > 0.95
    assert rank_correlation(expected_work_s, work_s) > 0.95
    assert sum(program.contradicted + program.expected for program in table) == 0


@pytest.mark.parametrize(
    ("workload", "path_rank", "work_rank"),
    [("tot", 0.6, 0.7), ("swarm", 0.3, 0.5), ("pipeline", 0.7, 0.7), ("react", 0.8, 0.8), ("mixed", 0.7, 0.65)],
)
def test_with_full_hints_what_is_left_is_about_right_and_in_the_right_order(workload, path_rank, work_rank):
    """Nobody tells how long a tool will take, or how many steps of a swarm's children are side by side."""
    _, seen = replay(make_workload(workload, 1, 40), make_hint("full"))
    expected_path_s, path_s, expected_work_s, work_s = once_known(seen)
    assert 0.5 < expected_path_s.sum() / path_s.sum() < 1.5
    assert 0.6 < expected_work_s.sum() / work_s.sum() < 1.5
    assert rank_correlation(expected_path_s, path_s) > path_rank
    assert rank_correlation(expected_work_s, work_s) > work_rank


def test_full_hints_are_not_contradicted_by_what_happens():
    table, _ = replay(make_workload("mixed", 1, 20), make_hint("full"))
    assert table.stats.told + sum(program.told for program in table) > 300
    assert table.stats.contradicted + sum(program.contradicted for program in table) == 0


def test_wrong_hints_are_found_out_and_do_little_harm():
    table, seen = replay(make_workload("mixed", 1, 40), make_hint("wrong"))
    _, _, expected_work_s, work_s = once_known(seen)
    told = table.stats.told + sum(program.told for program in table)
    contradicted = table.stats.contradicted + sum(program.contradicted for program in table)
    assert 0.1 < contradicted / told < 0.6, "three in ten are wrong"
    assert rank_correlation(expected_work_s, work_s) > 0.4
    assert expected_work_s.sum() / work_s.sum() < 3.0
