"""The traces of ../shared/traces, against the figures that are known of them."""

from collections import Counter
from statistics import median

import pytest
from workload_checks import check_programs, real_trace

from sim.workloads.prefixes import PrefixTree
from sim.workloads.program import Context
from sim.workloads.traces import load_trace


def hit_rate(steps):
    """Of an unbounded cache of prompts, in tokens."""
    tree, total, new = PrefixTree(), 0, 0
    for step in steps:
        total += step.prompt_tokens
        new += tree.add(step.parts)
    return 1 - new / total


@pytest.fixture(scope="module")
def mooncake():
    return load_trace(real_trace("mooncake_conversation.jsonl.gz"), "mooncake", seed=1)


class TestMooncake:
    def test_12031_requests_in_an_hour(self, mooncake):
        check_programs(mooncake.programs)
        assert len(mooncake.programs) == 12_031
        assert not mooncake.skipped
        assert 3534 < mooncake.programs[-1].arrival_s < 3540
        assert median(program.steps[0].prompt_tokens for program in mooncake.programs) == 6909
        assert median(program.steps[0].output_tokens for program in mooncake.programs) == 350

    def test_an_unbounded_cache_hits_37_36_percent_of_tokens(self, mooncake):
        assert hit_rate(program.steps[0] for program in mooncake.programs) == pytest.approx(0.3736, abs=0.00005)

    def test_all_share_their_first_block(self, mooncake):
        heads = {(part.stream, part.offset) for program in mooncake.programs for part in program.steps[0].parts[:1]}
        assert heads == {(0, 0)}

    def test_ticks_of_3_s_are_spread(self, mooncake):
        assert len({program.arrival_s for program in mooncake.programs}) == 12_031
        again = load_trace(real_trace("mooncake_conversation.jsonl.gz"), "mooncake", seed=2)
        pairs = list(zip(mooncake.programs, again.programs, strict=True))
        assert 0 < max(abs(one.arrival_s - other.arrival_s) for one, other in pairs) <= 3
        assert [p.steps for p in mooncake.programs] == [p.steps for p in again.programs], "the order is the file's"


@pytest.fixture(scope="module")
def weka():
    return load_trace(real_trace("weka_cc_dev.jsonl.gz"), "weka")


class TestWeka:
    def test_119_programs_with_all_their_calls(self, weka):
        """Of the 7,797 entries at the top level, 39 are sub-agents."""
        check_programs(weka.programs)
        assert not weka.skipped
        assert len(weka.programs) == 119
        calls = Counter(bool(step.agent) for program in weka.programs for step in program.steps)
        assert calls == {False: 7797 - 39, True: 423}
        assert sum(any(step.agent for step in program.steps) for program in weka.programs) == 9

    def test_an_unbounded_cache_hits_96_percent_of_tokens(self, weka):
        steps = [step for program in weka.programs for step in program.steps if not step.agent]
        assert hit_rate(steps) == pytest.approx(0.9637, abs=0.003)

    def test_programs_share_tool_definitions(self, weka):
        tools = [program.steps[0].parts[0] for program in weka.programs]
        assert {part.context for part in tools} == {Context.TOOLS}
        assert len({part.stream for part in tools}) < 60

    def test_most_answers_are_found_again(self, weka):
        found = Counter()
        for program in weka.programs:
            answers = {step.answer_stream for step in program.steps}
            used = {part.stream for step in program.steps for part in step.parts}
            found.update(answer in used for answer in answers)
        assert 0.7 < found[True] / found.total() < 0.9

    def test_three_sub_agents_side_by_side(self, weka):
        (program,) = (program for program in weka.programs if program.id == "trace_0254")
        steps = {step.name: step for step in program.steps}
        for agent in ("agent_001", "agent_002", "agent_003"):
            assert steps[f"{agent}.call-0"].after == ("call-1",)
            assert steps[f"{agent}.call-0"].wait_s < 1.0
        assert set(steps["call-2"].after) == {"call-1", "agent_001.call-6", "agent_002.call-3", "agent_003.call-5"}
        assert steps["call-2"].wait_s == pytest.approx(164 - 149.516)

    def test_nothing_waits_for_agents_in_the_background(self, weka):
        (program,) = (program for program in weka.programs if program.id == "trace_0295")
        background = {"agent_002", "agent_003", "agent_004", "agent_005"}
        starts = {
            step.agent: step.after for step in program.steps if step.agent in background and "call-0" in step.name
        }
        assert starts.keys() == background
        waited_for = {name for step in program.steps if not step.agent for name in step.after}
        assert not any(name.startswith(agent) for name in waited_for for agent in background)
        assert any(name.startswith("agent_001.") for name in waited_for)


@pytest.mark.parametrize(
    ("name", "programs", "calls", "hits"),
    [("miniswe_text.jsonl.gz", 20, 402, 0.93), ("taubench_text.jsonl.gz", 24, 471, 0.8)],
)
def test_text_sessions(name, programs, calls, hits):
    trace = load_trace(real_trace(name), "text")
    check_programs(trace.programs)
    assert len(trace.programs) == programs
    assert sum(len(program.steps) for program in trace.programs) + trace.skipped.total() == calls
    assert hit_rate(step for program in trace.programs for step in program.steps) == pytest.approx(hits, abs=0.03)
