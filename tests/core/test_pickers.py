from collections import Counter
from random import Random

import numpy as np

from router.core.pickers import MaxScore, PowerOfTwo, RoundRobin, WeightedRandom


def picks(picker, scores, times=4000):
    random = Random(1)
    return Counter(picker.pick(np.array(scores), random) for _ in range(times))


def test_max_score_takes_the_best():
    assert picks(MaxScore(), [0.1, 0.9, 0.5]) == {1: 4000}


def test_max_score_draws_among_equals():
    counts = picks(MaxScore(), [0.9, 0.1, 0.9])
    assert set(counts) == {0, 2}
    assert abs(counts[0] - counts[2]) < 400


def test_weighted_random_draws_in_proportion():
    counts = picks(WeightedRandom(), [1.0, 3.0, 0.0])
    assert counts[2] == 0
    assert 2.5 < counts[1] / counts[0] < 3.5


def test_weighted_random_with_nothing_to_weigh_draws_evenly():
    assert set(picks(WeightedRandom(), [0.0, 0.0])) == {0, 1}


def test_power_of_two_never_takes_the_worst_of_many():
    counts = picks(PowerOfTwo(), [0.1, 0.5, 0.9])
    assert 0 not in counts
    assert counts[2] > counts[1]
    assert picks(PowerOfTwo(), [0.1]) == {0: 4000}


def test_round_robin_takes_each_in_turn():
    assert picks(RoundRobin(), [0.9, 0.1, 0.5], 30) == {0: 10, 1: 10, 2: 10}
