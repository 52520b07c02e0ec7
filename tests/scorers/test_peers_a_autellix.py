"""Autellix's Algorithm 2: short calls spread, long ones stay with their program."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.core.types import ProgramHint, Prompt, Request
from scorers.peers.autellix_locality import AutellixLocality


def call(program, tokens):
    return Request("r", "m", Prompt(np.zeros(tokens, np.uint32)), program=ProgramHint(program))


def send(scorer, scene, position, request):
    scorer.dispatched(request, scene.candidates(), position, scene.now)


def score(scorer, scene, request):
    return scorer.score(request, scene.candidates(), scene.view()).tolist()


@pytest.mark.parametrize(("tokens", "best"), [(2048, [0.5, 0, 1]), (2049, [0, 1, 0])])
def test_calls_of_more_than_2048_tokens_follow_their_program(scene, tokens, best):
    scorer = AutellixLocality()
    send(scorer, scene, 1, call("p", 3000))
    scene.load.queued[:] = [1, 2, 0]
    assert score(scorer, scene, call("p", tokens)) == best


def test_a_programs_first_long_call_goes_where_there_is_least_to_do(scene):
    scorer = AutellixLocality()
    scene.load.queued[:] = [1, 0, 2]
    scene.load.started[:] = [1, 1, 2]
    assert score(scorer, scene, call("p", 3000)) == pytest.approx([2 / 3, 1, 0])


def test_short_calls_pin_nothing(scene):
    scorer = AutellixLocality()
    send(scorer, scene, 1, call("p", 2048))
    assert score(scorer, scene, call("p", 3000)) == [1, 1, 1]


def test_programs_do_not_share_a_pin(scene):
    scorer = AutellixLocality()
    send(scorer, scene, 1, call("p", 3000))
    assert score(scorer, scene, call("q", 3000)) == [1, 1, 1]


def test_a_pin_to_a_replica_that_is_gone_is_made_anew(scene):
    scorer = AutellixLocality()
    send(scorer, scene, 1, call("p", 3000))
    left = scene.candidates().among(np.array([True, False, True]))
    scorer.dispatched(call("p", 3000), left, 1, scene.now)
    assert score(scorer, scene, call("p", 3000)) == [0, 0, 1]


def test_the_programs_without_a_long_call_for_longest_are_forgotten(scene):
    scorer = AutellixLocality(max_programs=2)
    for program in ("one", "two", "one", "three"):
        send(scorer, scene, 0, call(program, 3000))
    assert score(scorer, scene, call("two", 3000)) == [1, 1, 1]
    assert score(scorer, scene, call("one", 3000)) == [1, 0, 0]


calls = st.lists(st.tuples(st.sampled_from("pq"), st.sampled_from([100, 2048, 2049, 5000])), max_size=12)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calls)
def test_every_call_goes_where_algorithm_2_sends_it(scene, calls):
    scene, scorer = type(scene)(), AutellixLocality()
    workload, pins = [0, 0, 0], {}
    for program, tokens in calls:
        position = int(np.argmax(score(scorer, scene, call(program, tokens))))
        least = workload.index(min(workload))
        assert position == (least if tokens <= 2048 else pins.setdefault(program, least))
        send(scorer, scene, position, call(program, tokens))
        scene.load.dispatch(position, tokens, tokens)
        workload[position] += 1
