"""Policies that make requests wait in the router: all are served, in the order that the policy promises."""

import pytest
from cluster_world import ENGINE, part, workloads
from hypothesis import given, settings

from router.core.fleet import ModelRef
from router.core.flow import Waiting
from router.core.types import Outcome, ProgramHint, Request, Ticket
from sim.cluster import Cluster, ClusterConfig
from sim.engine import EngineConfig, StepTime
from sim.policies.catalogue import POLICIES
from sim.policies.oracle import SrptHeft
from sim.policies.oracle_costs import step_costs
from sim.policies.policy import World
from sim.workloads.hints import full_hint
from sim.workloads.program import Program, Step

PROGRAM_LEVEL = ["fcfs", "program-fcfs", "llm-d-las", "dynamo-wspt", "plas", "atlas", "thunder-agent", "oracle"]

SIMPLE = EngineConfig(
    StepTime(fixed_ps=10**12, prefill_token_ps=10**10, attention_pair_ps=0, decode_seq_ps=10**11, context_token_ps=0),
    num_blocks=101,
    block_size_tokens=10,
    max_model_len_tokens=500,
)
"""A step takes 1 s, a prompt token 0.01 s more, a decoding sequence 0.1 s; 1000 tokens fit."""


def step(name, stream, tokens, output_tokens, *after, wait_s=0.0):
    return Step(name, (part(stream, tokens),), output_tokens, answer_stream=1000 + stream, after=after, wait_s=wait_s)


def diamond():
    """a leads to b and c, and both of them to d, which a tool of 5 s precedes."""
    steps = (
        step("a", 1, 100, 10),
        step("b", 2, 100, 20, "a"),
        step("c", 3, 100, 10, "a"),
        step("d", 4, 100, 10, "b", "c", wait_s=5),
    )
    return Program("p", "test", 0.0, steps)


def serve(name, programs, replicas=1, engine=ENGINE):
    world = World(programs, engine, replicas)
    cluster = Cluster(
        ClusterConfig(engine, replicas), lambda number: POLICIES[name].make_router(world, number), hint=full_hint()
    )
    return cluster.run(programs)


@pytest.mark.parametrize("name", PROGRAM_LEVEL)
@given(workloads())
@settings(max_examples=8, deadline=None)
def test_every_call_of_every_program_is_served_once(name, programs):
    run = serve(name, programs)
    served = sorted((call.program.id, call.step.name) for call in run.calls)
    assert served == sorted((program.id, each.name) for program in programs for each in program.steps)
    assert len(run.programs) == len(programs)


@pytest.mark.parametrize("name", PROGRAM_LEVEL)
def test_a_policy_in_order_makes_a_flow_of_its_own_for_each_router(name):
    world = World((), ENGINE, 1)
    flows = [POLICIES[name].make_flow(world) for _ in range(2)]
    assert flows[0].gate is not None
    assert flows[0].gate is not flows[1].gate


def test_the_cost_of_a_step_is_its_prefill_its_decode_and_its_share_of_the_weights():
    """100 tokens of prompt: 1 s. 10 of output: 1 s, and 10.5 % of 10 s, as 105 of 1000 tokens are its own."""
    costs = step_costs([diamond()], SIMPLE)["p"]
    assert costs["a"].work_s == pytest.approx(1 + 1 + 1.05)
    assert costs["b"].work_s == pytest.approx(1 + 2 + 0.11 * 20)


def test_what_another_prompt_began_with_is_not_computed_again():
    twins = [Program(name, "test", 0.0, (step("a", 1, 100, 10),)) for name in ("first", "second")]
    costs = step_costs(twins, SIMPLE)
    assert costs["first"]["a"].work_s - costs["second"]["a"].work_s == pytest.approx(0.98)


def test_the_upward_rank_is_the_longest_path_to_the_end():
    """Alone, 10 tokens of output take 11 s and 20 take 22 s; each prompt 1 s."""
    costs = step_costs([diamond()], SIMPLE)["p"]
    assert costs["d"].rank_s == pytest.approx(12)
    assert costs["c"].rank_s == pytest.approx(12 + 5 + 12)
    assert costs["b"].rank_s == pytest.approx(23 + 5 + 12)
    assert costs["a"].rank_s == pytest.approx(12 + 40)


class TestSrptHeft:
    """``p`` has 12 s of work, ``small`` 3 s."""

    def setup_method(self):
        small = Program("small", "test", 0.0, (step("x", 5, 100, 10),))
        self.order = SrptHeft(step_costs([diamond(), small], SIMPLE))

    def ask(self, program, name):
        ticket = Ticket(Request("r", "m", program=ProgramHint(program, name)), 0.0)
        return Waiting(ticket, ModelRef("m"), None, 0, lambda _: 0)

    def rank(self, program, name):
        return self.order.rank(self.ask(program, name), 0.0)

    def end(self, program, name, outcome=Outcome.OK):
        self.order.ended(self.ask(program, name).ticket, None, outcome, 1.0)

    def test_the_program_with_less_work_left_goes_first(self):
        assert self.rank("small", "x") < self.rank("p", "a")

    def test_in_a_program_the_longest_path_goes_first(self):
        assert self.rank("p", "b") < self.rank("p", "c")

    def test_work_that_is_done_is_no_longer_left(self):
        for name in "abc":
            self.end("p", name)
        assert list(self.order.moved(1.0)) == [("", "p")]
        assert list(self.order.moved(1.0)) == []
        assert self.rank("p", "d")[0] == pytest.approx(self.rank("small", "x")[0])

    def test_a_call_that_failed_is_still_to_be_done(self):
        before = self.rank("p", "a")
        self.end("p", "a", Outcome.FAILED)
        assert self.rank("p", "a") == before

    def test_who_is_not_known_goes_last(self):
        assert self.rank("p", "a") < self.rank("stranger", "a") == self.rank("p", "surprise")
