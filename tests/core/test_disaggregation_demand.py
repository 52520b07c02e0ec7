"""How many replicas each leg keeps busy."""

import pytest

from router.core.disaggregation.demand import TARGET, WINDOW_S, Demand
from router.core.types import Role


def after(seconds, busy):
    """``busy`` replica seconds of prefill in each second."""
    demand = Demand()
    for second in range(seconds):
        demand.add(Role.PREFILL, busy, float(second))
    return demand, float(seconds)


def test_steady_work_keeps_as_many_replicas_busy_as_it_takes_seconds_per_second():
    demand, now = after(600, 3.0)
    assert demand.replicas(Role.PREFILL, now) == pytest.approx(3.0, rel=0.03)
    assert demand.wanted(Role.PREFILL, now) == 5 == round(3.0 / TARGET[Role.PREFILL])


def test_work_that_has_ceased_is_forgotten_within_minutes():
    demand, now = after(600, 3.0)
    assert demand.replicas(Role.PREFILL, now + 5 * WINDOW_S) < 0.05


def test_an_idle_leg_wants_one_replica():
    assert Demand().wanted(Role.DECODE, 0.0) == 1
