"""What clients tell of their programs: right in full, a part of it, wrong on purpose, or nothing."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest
from cluster_world import CONFIG, one_call, part, routers, workloads
from hypothesis import given
from hypothesis import strategies as st

from router.core.types import ProgramHint, Request, Ticket
from sim.cluster import Cluster
from sim.workloads.hints import describe_hint, hint_names, make_hint
from sim.workloads.outline import outline
from sim.workloads.program import Program, Step
from sim.workloads.registry import make_workload


def step(name: str, *after: str) -> Step:
    return Step(name, (part(1, 10),), 7, answer_stream=len(name), after=after)


DIAMOND = Program(
    "d", "test", 0.0, (step("plan"), step("left", "plan"), step("right", "plan"), step("sum", "left", "right")), "acme"
)


def told(name: str, program: Program, seed: int = 0, share: float | None = None) -> list[Request]:
    tell = make_hint(name, seed, share)
    requests = [Request(each.name, "model") for each in program.steps]
    for request, each in zip(requests, program.steps, strict=True):
        tell(request, program, each)
    return requests


def hint_of(request: Request) -> ProgramHint:
    assert request.program is not None
    return request.program


@pytest.fixture(scope="module")
def trees() -> list[Program]:
    return make_workload("tot", seed=3, count=30)


def test_a_full_hint_says_what_the_graph_says() -> None:
    plan, left, right, end = told("full", DIAMOND)
    common = {"id": "d", "kind": "test", "output_tokens": 7}
    assert plan.program == ProgramHint(step="plan", remaining_steps=2, **common)
    branch = ProgramHint(after=("plan",), join="sum", width=2, remaining_steps=1, **common)
    assert [left.program, right.program] == [replace(branch, step="left"), replace(branch, step="right")]
    assert end.program == ProgramHint(step="sum", after=("left", "right"), remaining_steps=0, final=True, **common)
    assert {(request.session_id, request.tenant) for request in (plan, left, right, end)} == {("d", "acme")}


def test_siblings_that_several_later_steps_wait_for_join_under_the_first_of_them() -> None:
    program = Program("p", "test", 0.0, (step("a"), step("b"), step("vote-1", "a", "b"), step("vote-2", "a", "b")))
    assert [hint_of(request).join for request in told("full", program)] == ["vote-1", "vote-1", "", ""]


def test_a_program_with_two_ends_has_no_last_call() -> None:
    program = Program("p", "test", 0.0, (step("a"), step("b", "a"), step("c", "a")))
    assert not any(hint_of(request).final for request in told("full", program))


@given(workloads())
def test_the_longest_path_is_that_of_a_walk_over_all_paths(programs: list[Program]) -> None:
    for program in programs:
        followers = {each.name: [x.name for x in program.steps if each.name in x.after] for each in program.steps}

        def longest(name: str) -> int:
            return max((1 + longest(after) for after in followers[name]), default=0)  # noqa: B023

        for name, place in outline(program).items():
            assert place.remaining_steps == longest(name)
            ends = [each for each, after in followers.items() if not after]
            assert place.final == (ends == [name])
            shared = [x for x in program.steps if name in x.after and len(x.after) > 1]
            assert (place.join, place.width) == ((shared[0].name, len(shared[0].after)) if shared else ("", 0))


def test_the_same_id_in_another_run_is_another_program() -> None:
    tell = make_hint("full")
    request = Request("r", "model")
    tell(request, DIAMOND, DIAMOND.steps[0])
    alone = replace(DIAMOND, steps=DIAMOND.steps[:1])
    tell(request, alone, alone.steps[0])
    assert hint_of(request).final


def test_a_partial_hint_leaves_some_calls_with_their_session_alone(trees: list[Program]) -> None:
    full = [request for program in trees for request in told("full", program)]
    partial = [request for program in trees for request in told("partial", program)]
    assert [request.program_key for request in partial] == [request.program_key for request in full]
    hinted = [request.program is not None for request in partial]
    assert sum(hinted) / len(hinted) == pytest.approx(0.5, abs=0.05)
    assert all(one.program in (None, other.program) for one, other in zip(partial, full, strict=True))


def test_a_wrong_hint_is_wrong_about_everything_but_who_is_calling(trees: list[Program]) -> None:
    right = [hint_of(request) for program in trees for request in told("full", program)]
    given = [hint_of(request) for program in trees for request in told("wrong", program)]
    wrong = [(one, other) for one, other in zip(given, right, strict=True) if one != other]
    assert len(wrong) / len(given) == pytest.approx(0.3, abs=0.05)
    for one, other in wrong:
        assert (one.id, one.step, one.kind) == (other.id, other.step, other.kind)
        assert set(one.after) != set(other.after)
        assert (one.join, one.width) != (other.join, other.width)
        assert one.remaining_steps != other.remaining_steps
        assert one.remaining_steps is not None
        assert one.remaining_steps >= 0
        assert one.output_tokens != other.output_tokens
        assert one.output_tokens is not None
        assert one.output_tokens >= 1
    finals = sum(one.final != other.final for one, other in wrong)
    assert finals / len(wrong) == pytest.approx(0.25, abs=0.07)


@given(workloads(), st.sampled_from(["partial", "wrong"]), st.sampled_from([0.0, 1.0]))
def test_shares_of_none_and_of_all(programs: list[Program], name: str, share: float) -> None:
    for program in programs:
        asked = zip(told(name, program, share=share), told("full", program), strict=True)
        as_told = [request.program == full.program for request, full in asked]
        assert as_told == [(name == "partial") == (share == 1.0)] * len(as_told)


def test_a_session_and_nothing() -> None:
    bare = [Request(each.name, "model") for each in DIAMOND.steps]
    assert told("none", DIAMOND) == bare
    assert told("session", DIAMOND) == [replace(request, session_id="d") for request in bare]


@pytest.mark.parametrize("name", hint_names())
def test_a_call_is_hinted_alike_whatever_was_hinted_before(name: str, trees: list[Program]) -> None:
    tell = make_hint(name, seed=5)
    in_order = {program.id: told(name, program, seed=5) for program in trees}
    for program in reversed(trees):
        for each, before in zip(reversed(program.steps), reversed(in_order[program.id]), strict=True):
            request = Request(each.name, "model")
            tell(request, program, each)
            assert request == before


@pytest.mark.parametrize("name", ["partial", "wrong"])
def test_seeds_choose_other_calls(name: str, trees: list[Program]) -> None:
    assert told(name, trees[0], seed=1) != told(name, trees[0], seed=2)


@pytest.mark.parametrize("name", hint_names())
def test_a_cluster_hands_them_to_its_routers(name: str) -> None:
    seen: list[Request] = []
    router = routers()(0)
    submit = router.submit

    def watched(request: Request, now: float) -> Ticket:
        seen.append(request)
        return submit(request, now)

    router.submit = watched  # type: ignore[method-assign]
    program = one_call("a", part(1, 5), tenant="acme")
    Cluster(CONFIG, lambda number: router, hint=make_hint(name)).run([program])
    known = {each.name: getattr(told(name, program)[0], each.name) for each in fields(Request)}
    for field in ("session_id", "tenant", "program"):
        assert getattr(seen[0], field) == known[field]


@pytest.mark.parametrize(
    ("name", "share", "message"),
    [
        ("some", None, "no hints 'some': give one of full, partial, wrong, session, none"),
        ("full", 0.5, "leave the share out"),
        ("wrong", 1.5, "from 0 to 1, not 1.5"),
    ],
)
def test_what_there_is_not_is_refused(name: str, share: float | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_hint(name, share=share)


def test_each_has_a_line() -> None:
    assert len({describe_hint(name) for name in hint_names()}) == len(hint_names())
