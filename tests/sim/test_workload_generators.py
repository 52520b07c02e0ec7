"""Generated workloads: shaped like what they are named after, sized like the figures they are taken from."""

from statistics import mean, median, quantiles

import pytest
from workload_checks import check_programs, common_tokens

from sim.workloads.draw import Lognormal, Range
from sim.workloads.program import Context
from sim.workloads.registry import describe, make_workload, workload_names
from sim.workloads.tools import ToolUse

LONGEST_CONTEXT_TOKENS = 131_072


def steps_of(programs):
    return [step for program in programs for step in program.steps]


def tokens_of(step, context):
    return sum(part.tokens for part in step.parts if part.context is context)


def named(program, prefix):
    return [step for step in program.steps if step.name.startswith(prefix)]


@pytest.mark.parametrize("name", workload_names())
@pytest.mark.parametrize("seed", [1, 2])
class TestAll:
    def test_programs_are_sound(self, name, seed):
        programs = make_workload(name, seed, 30)
        assert len(programs) == 30
        check_programs(programs)

    def test_the_same_seed_makes_the_same_programs(self, name, seed):
        assert make_workload(name, seed, 10) == make_workload(name, seed, 10)

    def test_the_first_programs_do_not_depend_on_how_many_follow(self, name, seed):
        assert make_workload(name, seed, 20)[:5] == make_workload(name, seed, 5)

    def test_prompts_fit_a_context_of_128k(self, name, seed):
        steps = steps_of(make_workload(name, seed, 30))
        assert max(step.prompt_tokens + step.output_tokens for step in steps) <= LONGEST_CONTEXT_TOKENS


@pytest.mark.parametrize("name", [name for name in workload_names() if name != "shared-prefix"])
def test_another_seed_makes_other_programs(name):
    sizes = [[step.prompt_tokens for step in steps_of(make_workload(name, seed, 10))] for seed in (1, 2)]
    assert sizes[0] != sizes[1]


def test_another_seed_shuffles_the_shared_prefixes_otherwise():
    first = [make_workload("shared-prefix", seed, 10) for seed in (1, 2)]
    assert [p.steps[0].parts for p in first[0]] != [p.steps[0].parts for p in first[1]]


def test_programs_belong_to_tenants():
    assert {program.tenant for program in make_workload("uniform", 1, 100, tenants=3)} == {
        "tenant-0",
        "tenant-1",
        "tenant-2",
    }


class TestTreeOfThought:
    def test_branches_of_a_level_share_the_context_and_start_together(self):
        for program in make_workload("tot", 3, 5):
            branches = named(program, "level-0.branch")
            assert 3 <= len(branches) <= 17
            assert {step.after for step in branches} == {()}
            shared = [common_tokens(branches[0], other) for other in branches[1:]]
            assert min(shared) >= 30_000
            assert len({step.parts[-1].stream for step in branches}) == len(branches)

    def test_votes_wait_for_all_branches_and_read_their_thoughts(self):
        (program,) = make_workload("tot", 3, 1, votes=2)
        branches, votes = named(program, "level-1.branch"), named(program, "level-1.vote")
        assert len(votes) == 2
        for vote in votes:
            assert set(vote.after) == {step.name for step in branches}
            assert {step.answer_stream for step in branches} <= {part.stream for part in vote.parts}

    def test_the_next_level_goes_on_from_one_thought(self):
        (program,) = make_workload("tot", 3, 1)
        thoughts = {step.answer_stream for step in named(program, "level-0.branch")}
        for step in named(program, "level-1.branch"):
            assert set(step.after) == {vote.name for vote in named(program, "level-0.vote")}
            kept = [part for part in step.parts if part.stream in thoughts]
            assert [part.context for part in kept] == [Context.CHECKPOINT]

    def test_contexts_of_30k_to_100k(self):
        sizes = [tokens_of(program.steps[0], Context.SHARED) for program in make_workload("tot", 1, 200)]
        assert 30_000 <= min(sizes) < 35_000
        assert 95_000 < max(sizes) <= 100_000

    def test_width_is_that_of_game_of_24(self):
        widths = [len(named(program, "level-0.branch")) for program in make_workload("tot", 1, 300)]
        assert median(widths) == pytest.approx(8, abs=1)

    def test_contexts_can_come_back(self):
        programs = make_workload("tot", 1, 100, context_reuse=0.5)
        contexts = {part.stream for p in programs for part in p.steps[0].parts if part.context is Context.SHARED}
        assert 30 < len(contexts) < 70

    def test_an_evaluation_can_wait_for_a_tool(self):
        (program,) = make_workload("tot", 1, 1, tool=ToolUse(frequency=1.0, wait_s=Range(5, 5)))
        assert {step.wait_s for step in named(program, "level-0.vote")} == {5}


@pytest.fixture(scope="module")
def loops():
    return make_workload("react", 5, 2000, delegation=0.0)


class TestReact:
    def test_each_prompt_repeats_the_one_before_and_its_answer(self, loops):
        for program in loops[:50]:
            for before, step in zip(program.steps, program.steps[1:], strict=False):
                if any(part.context is Context.CHECKPOINT for part in step.parts):
                    break
                assert step.after == (before.name,)
                assert common_tokens(before, step) == before.prompt_tokens
                assert step.parts[len(before.parts)].stream == before.answer_stream

    def test_tool_definitions_are_10k_to_30k_and_shared(self, loops):
        heads = {program.steps[0].parts[:2] for program in loops}
        assert len(heads) == 4
        assert all(10_000 <= tools.tokens <= 30_000 for tools, _ in heads)
        assert {tools.context for tools, _ in heads} == {Context.TOOLS}

    def test_turns_are_those_of_claude_code(self, loops):
        turns = [len(named(program, "turn-")) for program in loops]
        assert median(turns) == pytest.approx(6, abs=1)
        assert mean(turns) == pytest.approx(14.6, rel=0.15)
        assert quantiles(turns, n=10)[-1] == pytest.approx(39, rel=0.2)

    def test_tool_waits_have_the_tail_of_claude_code(self, loops):
        waits = [step.wait_s for program in loops for step in named(program, "turn-")[1:]]
        assert median(waits) == pytest.approx(9, rel=0.1)
        assert quantiles(waits, n=10)[-1] == pytest.approx(68, rel=0.25)
        assert max(waits) <= 610

    def test_answers_are_as_long_as_claude_code_s(self, loops):
        answers = [step.output_tokens for program in loops for step in named(program, "turn-")]
        assert median(answers) == pytest.approx(216, rel=0.05)
        assert mean(answers) == pytest.approx(440, rel=0.1)

    def test_beyond_its_context_an_agent_goes_on_from_a_summary(self, loops):
        summed_up = [program for program in loops if named(program, "summary-")]
        assert summed_up
        for program in summed_up:
            names = [step.name for step in program.steps]
            at = next(index for index, name in enumerate(names) if name.startswith("summary-"))
            summary, after = program.steps[at], program.steps[at + 1]
            assert after.prompt_tokens < summary.prompt_tokens / 2
            assert any(
                part.stream == summary.answer_stream and part.context is Context.CHECKPOINT for part in after.parts
            )

    def test_how_often_tools_are_called(self):
        programs = make_workload("react", 5, 500, delegation=0.0, tool=ToolUse(frequency=0.3))
        later = [step for program in programs for step in named(program, "turn-")[1:]]
        assert mean(step.wait_s > 0 for step in later) == pytest.approx(0.3, abs=0.03)

    def test_delegated_work_is_joined(self):
        programs = make_workload("react", 5, 50, delegation=0.5)
        check_programs(programs)
        joined = [
            step for step in steps_of(programs) if not step.agent and any("agent-" in name for name in step.after)
        ]
        assert joined
        for program in programs:
            last_calls = {step.agent: step for step in program.steps if step.agent}
            for step in program.steps:
                for name in step.after if not step.agent else ():
                    child = next((each for each in last_calls.values() if each.name == name), None)
                    if child:
                        assert child.answer_stream in {part.stream for part in step.parts}


class TestSwarm:
    def test_children_start_together_on_90_to_95_percent_shared_context(self):
        for program in make_workload("swarm", 2, 20):
            firsts = [step for step in program.steps if step.agent and step.after == ("plan",)]
            assert 4 <= len(firsts) <= 16
            for step in firsts:
                shared = common_tokens(program.steps[0], step)
                assert 0.895 <= shared / step.prompt_tokens <= 0.955
                assert tokens_of(step, Context.BRANCH) == step.prompt_tokens - shared

    def test_the_parent_waits_for_every_child_and_reads_what_it_found(self):
        for program in make_workload("swarm", 2, 20):
            last_calls = {step.agent: step for step in program.steps if step.agent}
            aggregate = program.steps[-1]
            assert aggregate.name == "aggregate"
            assert set(aggregate.after) == {step.name for step in last_calls.values()}
            assert {step.answer_stream for step in last_calls.values()} <= {part.stream for part in aggregate.parts}

    def test_children_can_delegate_in_turn(self):
        (program,) = make_workload("swarm", 2, 1, levels=2, width=Range(3, 3))
        check_programs([program])
        assert [step.name for step in program.steps if step.name.endswith("aggregate")] == [
            "child-0.aggregate",
            "child-1.aggregate",
            "child-2.aggregate",
            "aggregate",
        ]
        grandchildren = {step.agent for step in program.steps if step.agent.count("child") == 2}
        assert len(grandchildren) == 9

    def test_stragglers(self):
        """The slowest child of a swarm has several times the turns of the median one, now and then."""
        ratios = []
        for program in make_workload("swarm", 2, 200):
            agents = [step.agent for step in program.steps if step.agent]
            turns = [agents.count(agent) for agent in set(agents)]
            ratios.append(max(turns) / median(turns))
        assert median(ratios) >= 2


class TestPipeline:
    def test_stages_wait_for_all_of_the_stage_before(self):
        for program in make_workload("pipeline", 4, 30):
            stages = max(int(step.name.split(".")[0].removeprefix("stage-")) for step in program.steps) + 1
            assert 3 <= stages <= 6
            for number in range(1, stages):
                before = named(program, f"stage-{number - 1}.")
                ends = {step.name for step in before} - {name for step in before for name in step.after}
                upstream = {step.answer_stream for step in before if step.name in ends}
                firsts = [step for step in named(program, f"stage-{number}.") if step.name.endswith("turn-1")]
                for step in firsts:
                    assert set(step.after) == ends
                    read = {part.stream for part in step.parts if part.context is Context.CHECKPOINT}
                    assert read == upstream

    def test_some_stages_fork(self):
        programs = make_workload("pipeline", 4, 300)
        widths = [
            sum(step.name.startswith("stage-1.") and step.name.endswith("turn-1") for step in program.steps)
            for program in programs
        ]
        assert mean(width > 1 for width in widths) == pytest.approx(0.5, abs=0.08)
        assert max(widths) == 4

    def test_some_thirty_calls(self):
        assert mean(len(program.steps) for program in make_workload("pipeline", 4, 500)) == pytest.approx(30, rel=0.15)

    def test_without_forks_it_is_a_chain(self):
        for program in make_workload("pipeline", 4, 5, fork=0.0):
            assert all(
                step.after == ((before.name,) if before else ())
                for before, step in zip((None, *program.steps), program.steps, strict=False)
            )


def test_mixed_holds_the_four_kinds_in_their_shares():
    kinds = [program.kind for program in make_workload("mixed", 1, 500)]
    shares = {kind: kinds.count(kind) / len(kinds) for kind in sorted(set(kinds))}
    assert shares == {
        "pipeline": pytest.approx(0.2, abs=0.05),
        "react": pytest.approx(0.6, abs=0.07),
        "swarm": pytest.approx(0.1, abs=0.04),
        "tot": pytest.approx(0.1, abs=0.04),
    }


@pytest.fixture(scope="module")
def chats():
    return make_workload("chat", 1, 4000)


class TestChat:
    def test_prompts_and_answers_are_those_of_mooncake(self, chats):
        steps = steps_of(chats)
        prompts = [step.prompt_tokens for step in steps]
        assert median(prompts) == pytest.approx(6909, rel=0.1)
        assert quantiles(prompts, n=10)[-1] == pytest.approx(27367, rel=0.15)
        assert median(step.output_tokens for step in steps) == pytest.approx(350, rel=0.05)

    def test_turns_are_those_of_mooncake(self, chats):
        turns = [len(program.steps) for program in chats]
        assert mean(turns) == pytest.approx(1.49, rel=0.08)
        assert quantiles(turns, n=100)[-1] == pytest.approx(7, abs=1)

    def test_people_take_their_time(self, chats):
        waits = [step.wait_s for program in chats for step in program.steps[1:]]
        assert median(waits) == pytest.approx(126, rel=0.1)


def test_uniform_shares_nothing():
    streams = [part.stream for step in steps_of(make_workload("uniform", 1, 200)) for part in step.parts]
    assert len(set(streams)) == len(streams) == 200


def test_shared_prefix_is_the_published_one():
    programs = make_workload("shared-prefix", 1, 1500)
    prompts = [program.steps[0].parts for program in programs]
    assert len(set(prompts)) == 750
    assert prompts[:750] == prompts[750:], "the shuffled prompts come round again"
    assert len({system.stream for system, _ in prompts}) == 150
    assert {(system.tokens, question.tokens) for system, question in prompts} == {(6000, 1200)}
    assert {program.steps[0].output_tokens for program in programs} == {1000}


class TestBadInput:
    def test_an_unknown_workload(self):
        with pytest.raises(ValueError, match=r"no workload 'storm': give one of tot, react, swarm"):
            make_workload("storm", 1, 1)
        with pytest.raises(ValueError, match="no workload"):
            describe("storm")

    def test_an_unknown_parameter(self):
        with pytest.raises(ValueError, match=r"workload swarm has no parameter depth; it has width, levels"):
            make_workload("swarm", 1, 1, depth=3)

    @pytest.mark.parametrize(
        ("name", "parameters"),
        [
            ("tot", {"votes": 0}),
            ("tot", {"context_reuse": 1.5}),
            ("react", {"delegation": -0.1}),
            ("react", {"agents": 0}),
            ("swarm", {"levels": 0}),
            ("pipeline", {"fork": 2.0}),
            ("mixed", {"shares": (0, 0, 0, 0)}),
            ("shared-prefix", {"groups": 0}),
        ],
    )
    def test_parameters_out_of_range(self, name, parameters):
        with pytest.raises(ValueError, match=r"\d"):
            make_workload(name, 1, 1, **parameters)

    def test_no_programs(self):
        with pytest.raises(ValueError, match="at least 1"):
            make_workload("chat", 1, 0)

    @pytest.mark.parametrize("bad", [lambda: Range(3, 2), lambda: Lognormal(0, 1), lambda: Lognormal(1, -1)])
    def test_distributions_that_are_none(self, bad):
        with pytest.raises(ValueError, match="needs"):
            bad()


def test_every_workload_says_what_it_is():
    assert all(0 < len(describe(name)) < 120 for name in workload_names())
