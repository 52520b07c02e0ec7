"""critical-path: whose request goes first, on programs made by hand."""

import pytest
from program_desk import ProgramDesk

from flow.orders.buckets import USUAL
from flow.orders.critical_path import CriticalPath


@pytest.fixture
def desk():
    return ProgramDesk(CriticalPath())


def test_the_program_with_the_shorter_path_left_goes_first(desk):
    desk.submit("long", remaining_steps=20)
    desk.submit("short", remaining_steps=1)
    assert desk.poll(2) == ["short", "long"]


def test_of_equal_paths_the_smaller_context_goes_first(desk):
    desk.submit("large", tokens=4000, remaining_steps=5)
    desk.submit("small", tokens=400, remaining_steps=5)
    assert desk.poll(2) == ["small", "large"]


def test_a_program_that_comes_nearer_to_its_end_moves_up(desk):
    first = desk.submit("a", step="1", remaining_steps=9)
    desk.poll(1)
    desk.submit("a", step="2", remaining_steps=8)
    desk.submit("b", remaining_steps=5)
    assert desk.peek() == ["b", "a"]
    desk.end(first)
    desk.submit("a", step="3", after=("1",), remaining_steps=0, output_tokens=1)
    desk.withdraw("2")
    assert desk.peek() == ["a", "b"]


def test_strangers_go_by_what_they_have_had(desk):
    old = desk.submit("old", tokens=20_000)
    desk.poll(1)
    desk.now = 30.0
    desk.end(old)
    desk.submit("old", tokens=20_000)
    desk.submit("new", tokens=20_000)
    assert desk.poll(2) == ["new", "old"]


def test_in_a_program_the_step_with_the_longest_way_to_go_leads(desk):
    desk.submit("p", step="side", remaining_steps=2)
    desk.submit("p", step="main", remaining_steps=7)
    assert desk.poll_steps(2) == ["main", "side"]


def test_siblings_have_the_rank_of_their_join_and_the_longest_leads(desk):
    desk.submit("p", step="short", join="j", width=2, remaining_steps=3, output_tokens=10)
    desk.submit("p", step="other", remaining_steps=1, output_tokens=200)
    desk.submit("p", step="long", join="j", width=2, remaining_steps=3, output_tokens=300)
    assert desk.poll_steps(3) == ["long", "short", "other"]


def test_the_join_that_lacks_fewest_goes_first():
    """Both joins are followed by as much; of ``two`` one sibling has ended, of ``three`` none."""
    desk = ProgramDesk(CriticalPath())
    done = desk.submit("p", step="t1", join="two", width=2, remaining_steps=1, output_tokens=100)
    desk.poll(1)
    desk.submit("p", step="x1", join="three", width=3, remaining_steps=1, output_tokens=100)
    desk.submit("p", step="x2", join="three", width=3, remaining_steps=1, output_tokens=100)
    desk.end(done, completion_tokens=100)
    desk.submit("p", step="t2", join="two", width=2, remaining_steps=1, output_tokens=100)
    assert desk.poll_steps(3) == ["t2", "x1", "x2"]


def test_a_branch_that_nothing_waits_for_comes_last(desk):
    desk.submit("p", step="probe", remaining_steps=0, output_tokens=2000)
    desk.submit("p", step="main", remaining_steps=200, output_tokens=1)
    desk.submit("p", step="other", remaining_steps=1, output_tokens=1)
    assert desk.poll_steps(3) == ["main", "other", "probe"]


def test_a_deadline_that_is_near_outweighs_less_work(desk):
    desk.submit("short", remaining_steps=2, tokens=10_000)
    desk.submit("urgent", remaining_steps=20, tokens=10_000, deadline_in_s=1.0)
    assert desk.poll(2) == ["urgent", "short"]


def test_a_deadline_far_away_gives_way(desk):
    desk.submit("relaxed", remaining_steps=1, deadline_in_s=3000.0)
    desk.submit("usual", remaining_steps=5)
    assert desk.poll(2) == ["usual", "relaxed"]


def test_a_deadline_that_is_over_counts_no_more(desk):
    desk.submit("late", tokens=10_000, remaining_steps=20, deadline_in_s=1.0)
    desk.now = 2.0
    desk.submit("short", tokens=10_000, remaining_steps=0)
    assert desk.poll(2) == ["short", "late"]


def test_a_graph_that_is_declared_while_its_first_step_waits_counts_at_once(desk):
    desk.submit("known", step="a", tokens=2000, remaining_steps=9)
    desk.submit("told", step="a", tokens=2000, remaining_steps=30)
    assert desk.peek() == ["known", "told"]
    desk.declare("told", {"name": "a", "output_tokens": 10}, {"name": "b", "after": ["a"], "output_tokens": 10})
    assert desk.poll(2) == ["told", "known"]


def test_a_level_of_granted_priority_is_worth_its_seconds(desk):
    desk.submit("usual", remaining_steps=2)
    desk.submit("granted", remaining_steps=4, priority=1)
    desk.submit("humble", remaining_steps=0, priority=-1)
    assert desk.poll(3) == ["granted", "usual", "humble"]


def test_nobody_is_overtaken_by_who_comes_more_than_the_patience_later():
    desk = ProgramDesk(CriticalPath(patience_s=100.0))
    desk.submit("endless", tokens=20_000, remaining_steps=1000)
    desk.now = 80.0
    desk.submit("soon", remaining_steps=0)
    assert desk.peek() == ["soon", "endless"]
    desk.now = 101.0
    desk.submit("later", remaining_steps=0)
    assert desk.poll(3) == ["soon", "endless", "later"]


def test_a_heavier_tenant_has_to_be_less_patient():
    desk = ProgramDesk(CriticalPath(patience_s=100.0, tenant_weights={"gold": 4.0}))
    desk.submit("usual", tokens=20_000, remaining_steps=1000)
    desk.now = 30.0
    desk.submit("gold", tenant="gold", tokens=20_000, remaining_steps=1000)
    assert desk.poll(2) == ["gold", "usual"]


@pytest.mark.parametrize(
    ("slack_tokens", "order"), [(1000.0, ["modest", "broad", "brief"]), (1e9, ["brief", "modest", "broad"])]
)
def test_a_tenant_that_had_more_than_its_share_waits_for_the_others(slack_tokens, order):
    desk = ProgramDesk(CriticalPath(slack_tokens=slack_tokens))
    desk.submit("greedy", tenant="a", tokens=2000)
    desk.submit("greedy", tenant="a", tokens=2000)
    desk.submit("modest", tenant="b", tokens=10_000, remaining_steps=50)
    assert desk.poll(2) == ["greedy", "greedy"]
    desk.now = 2.0
    desk.submit("broad", tenant="b", tokens=10_000, remaining_steps=60)
    desk.submit("brief", tenant="a", tokens=10_000, remaining_steps=0)
    assert desk.poll(3) == order


def test_without_programs_first_come_first_served():
    desk = ProgramDesk(CriticalPath(), follow=False)
    desk.submit("long", remaining_steps=20)
    desk.now = 1.0
    desk.submit("short", remaining_steps=0)
    assert desk.poll(2) == ["long", "short"]


def test_before_anything_is_usual_the_engine_is_told_of_granted_priority_alone(desk):
    order = desk.order
    small, large = desk.submit("small", remaining_steps=0), desk.submit("large", tokens=20_000, remaining_steps=2000)
    granted = desk.submit("granted", remaining_steps=0, priority=2)
    assert order.engine_priority(small) == order.engine_priority(large) == USUAL
    assert order.engine_priority(granted) == USUAL - 2


@pytest.mark.parametrize("tokens_per_s", [1_000.0, 100_000.0])
def test_the_engine_is_told_of_a_few_buckets_around_what_is_usual_here(desk, tokens_per_s):
    desk.programs.table.rates.prefill_tokens_per_s = tokens_per_s
    for number in range(5):
        desk.submit(f"usual {number}", tokens=2000, remaining_steps=8)
    desk.poll(5)
    told = [
        desk.order.engine_priority(desk.submit(f"{calls} calls", tokens=2000, remaining_steps=calls - 1))
        for calls in (3, 9, 27, 81)
    ]
    assert told == [2, 4, 5, 7]


def test_a_program_of_which_nothing_can_be_said_goes_first_in_the_engine(desk):
    desk.submit("known", remaining_steps=5)
    desk.poll(1)
    assert desk.order.engine_priority(desk.submit("stranger")) == 0


def test_the_engine_is_told_nothing_without_programs():
    desk = ProgramDesk(CriticalPath(), follow=False)
    assert desk.order.engine_priority(desk.submit("p")) is None


def test_a_weight_must_be_above_0():
    with pytest.raises(ValueError, match="above 0"):
        CriticalPath(tenant_weights={"a": 0.0})
