"""When programs arrive: rates hold, order holds, equal seeds give equal times."""

from random import Random
from statistics import mean, pvariance

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.workloads.arrivals import Bursts, ClosedLoop, Ladder, Poisson, arrange, sped_up
from sim.workloads.registry import make_workload

KINDS = [ClosedLoop(), Poisson(2.0), Bursts(2.0), Ladder()]


@pytest.mark.parametrize("arrivals", KINDS, ids=lambda arrivals: type(arrivals).__name__)
@given(count=st.integers(0, 200), seed=st.integers(0, 1000))
def test_times_ascend_from_zero(arrivals, count, seed):
    times = arrivals.times_s(count, Random(seed))
    assert len(times) == count
    assert times == sorted(times)
    assert all(time >= 0 for time in times)
    assert times == arrivals.times_s(count, Random(seed))


@pytest.mark.parametrize("arrivals", [Poisson(5.0), Bursts(5.0)], ids=["poisson", "bursts"])
def test_the_rate_holds_in_the_long_run(arrivals):
    times = arrivals.times_s(10_000, Random(1))
    assert 10_000 / times[-1] == pytest.approx(5.0, rel=0.08)


def test_bursts_are_burstier():
    def dispersion(arrivals):
        """Variance over mean of arrivals per second; 1 for Poisson."""
        times = arrivals.times_s(10_000, Random(1))
        counts = [0] * (int(times[-1]) + 1)
        for time in times:
            counts[int(time)] += 1
        return pvariance(counts) / mean(counts)

    assert dispersion(Poisson(5.0)) == pytest.approx(1, abs=0.15)
    assert dispersion(Bursts(5.0, size=8)) > 3


def test_the_default_ladder_is_the_published_one():
    ladder = Ladder()
    assert ladder.requests == 17_084
    assert sum(duration_s for _, duration_s in ladder.steps) == 502
    times = ladder.times_s(ladder.requests, Random(3))
    warm_up = sum(time < 50 for time in times)
    slow = sum(50 <= time < 70 for time in times)
    fast = sum(477 <= time < 502 for time in times)
    assert warm_up == pytest.approx(750, rel=0.15)
    assert slow == pytest.approx(60, rel=0.4)
    assert fast == pytest.approx(1500, rel=0.15)


def test_beyond_the_ladder_the_last_rate_holds():
    times = Ladder(steps=((1.0, 10.0), (100.0, 1.0))).times_s(2000, Random(1))
    assert times[-1] == pytest.approx(10 + 1990 / 100, rel=0.2)


def test_arranging_changes_times_alone():
    programs = make_workload("uniform", 1, 20)
    arranged = arrange(programs, Poisson(1.0), seed=4)
    assert [p.steps for p in arranged] == [p.steps for p in programs]
    assert arranged == arrange(programs, Poisson(1.0), seed=4)
    assert arranged != arrange(programs, Poisson(1.0), seed=5)


def test_a_workload_arrives_as_told():
    at_once, spread = (make_workload("uniform", 1, 20, arrivals) for arrivals in (None, Poisson(1.0)))
    assert {program.arrival_s for program in at_once} == {0.0}
    assert [program.steps for program in spread] == [program.steps for program in at_once]
    assert spread[-1].arrival_s > 0


def test_speeding_up():
    programs = make_workload("uniform", 1, 20, Poisson(1.0))
    assert [p.arrival_s for p in sped_up(programs, 4.0)] == [p.arrival_s / 4 for p in programs]


@pytest.mark.parametrize(
    "bad",
    [
        lambda: Poisson(0.0),
        lambda: Poisson(float("nan")),
        lambda: Bursts(1.0, size=0),
        lambda: Ladder(steps=()),
        lambda: Ladder(steps=((1.0, 0.0),)),
        lambda: sped_up([], -1.0),
    ],
)
def test_rates_that_are_none(bad):
    with pytest.raises(ValueError, match=r"above 0|at least one"):
        bad()
