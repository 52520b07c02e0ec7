"""wspt: (1 + priority) / uncached tokens, as Dynamo's own tests have it."""

from flow_world import Desk, waiting

from flow.orders.wspt import Wspt
from router.core.flow import Flow


def key(**request):
    (rank,) = Wspt().rank(waiting("p", **request), 0.0)
    return -rank


def test_shorter_goes_first():
    desk = Desk(Flow(Wspt()))
    desk.submit("long", tokens=1000)
    desk.submit("short", tokens=100)
    assert desk.poll(places=2) == ["short", "long"]


def test_the_key_is_one_over_the_uncached_tokens():
    assert key(tokens=512) == 1 / 512
    assert key(tokens=1024, cached_tokens=960) == 1 / 64


def test_a_prompt_that_is_all_cached_counts_as_one_token():
    assert key(tokens=512, cached_tokens=512) == 1.0


def test_priority_is_a_weight_and_never_negative():
    assert key(tokens=512, priority=5) == 6 / 512
    assert key(tokens=512, priority=-5) == 1 / 512
