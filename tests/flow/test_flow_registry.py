"""Orders, gates and admissions by name, and what an error says."""

from importlib.metadata import EntryPoint

import pytest

from flow.guarded import Guarded
from flow.registry import ORDERS, UnknownPartError, make_admission, make_gate, make_order
from router.core import plugins
from router.core.flow import FlowObserver, Prioritising, Restless


class Mine:
    name = "mine"

    def __init__(self, patience_s: float = 1.0, tenant_weights=None):
        self.patience_s = patience_s
        self.tenant_weights = tenant_weights

    def rank(self, waiting, now):
        return (self.patience_s,)


class NoOrder:
    name = "none"


@pytest.mark.parametrize("name", sorted(ORDERS))
def test_every_shipped_order_has_the_name_that_it_is_found_by(name):
    assert make_order(name, {}, {}).name == name


def test_gates_and_admissions_may_be_none():
    assert make_gate("none", {}) is None
    assert make_admission("none", {}) is None
    assert make_gate("step-budget", {"steps": 2}).name == "step-budget"
    assert make_admission("thunder-agent", {"tick_s": 1.0}).name == "thunder-agent"


def test_a_user_s_order_is_found_by_module_and_class_and_guarded():
    order = make_order("test_flow_registry:Mine", {"patience_s": 3}, {})
    assert isinstance(order, Guarded)
    assert (order.name, order.rank(None, 0.0)) == ("mine", (3.0,))
    assert all(isinstance(order, part) for part in (Restless, FlowObserver, Prioritising))


def test_a_package_may_bring_orders_along(monkeypatch):
    points = [EntryPoint("theirs", "test_flow_registry:Mine", "weft.orders")]
    monkeypatch.setattr(plugins, "entry_points", lambda group: [each for each in points if each.group == group])
    assert make_order("theirs", {}, {}).name == "mine"


def test_weights_of_tenants_go_to_an_order_that_takes_them():
    order = make_order("test_flow_registry:Mine", {}, {"a": 2.0})
    assert order._order.tenant_weights == {"a": 2.0}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: make_order("fastest", {}, {}), ["'fastest'", "fcfs, las", "module:Class"]),
        (lambda: make_order("no_such_module:Order", {}, {}), ["cannot load", "no_such_module"]),
        (lambda: make_order("test_flow_registry:Theirs", {}, {}), ["cannot load", "Theirs"]),
        (lambda: make_order(":x", {}, {}), ["cannot load"]),
        (lambda: make_order("test_flow_registry:NoOrder", {}, {}), ["rank(waiting, now)"]),
        (lambda: make_order("test_flow_registry:pytest", {}, {}), ["cannot be called"]),
        (lambda: make_order("las", {"halflife": 1}, {}), ["las", "'halflife'", "half_life_s"]),
        (lambda: make_order("las", {"half_life_s": 0}, {}), ["half_life_s is 0", "above 0"]),
        (lambda: make_order("las", {"half_life_s": "long"}, {}), ["half_life_s is 'long'", "a number"]),
        (lambda: make_order("las", {"wait_weight": -1}, {}), ["wait_weight is -1", "0 or more"]),
        (lambda: make_order("las", {"max_programs": 2.5}, {}), ["max_programs is 2.5", "whole number"]),
        (lambda: make_order("las", {"max_programs": 0}, {}), ["las", "at least 1"]),
        (lambda: make_order("las", {"half_life_s": float("nan")}, {}), ["half_life_s is nan"]),
        (lambda: make_order("fcfs", {"x": 1}, {}), ["'x'", "none"]),
        (lambda: make_order("fcfs", {}, {"a": 2.0}), ["fcfs", "tenants.*.weight"]),
        (lambda: make_gate("open", {}), ["'open'", "none, all-busy, step-budget"]),
        (lambda: make_gate("none", {"steps": 1}), ["no parameters"]),
        (lambda: make_gate("step-budget", {"steps": True}), ["steps is True"]),
        (lambda: make_admission("all", {}), ["'all'", "none, thunder-agent"]),
    ],
)
def test_errors_say_what_is_allowed(make, said):
    with pytest.raises(UnknownPartError) as error:
        make()
    assert all(words in str(error.value) for words in said), str(error.value)
