"""ThunderAgent: contexts of active programs stay within the KV memory; figures by hand. Each program needs 100 more."""

import pytest
from flow_world import Desk
from hypothesis import given
from hypothesis import strategies as st

from flow.admission.thunder_agent import ThunderAgent
from flow.admission.thunder_programs import BUFFER_TOKENS
from router.core.flow import Flow, OnReplica, ReplicaMemory
from router.core.types import Outcome


def desk_of(*capacities_tokens, used_tokens=float("inf"), **settings):
    """Replicas r0, r1, ... whose memory in use is so much that nothing counts as shared, unless told otherwise."""
    memories = [ReplicaMemory(f"r{i}", tokens, used_tokens) for i, tokens in enumerate(capacities_tokens)]
    return Desk(Flow(admission=ThunderAgent(**settings)), tuple(memories), places=float("inf"))


def replica_of(each):
    return each.ticket.decision.replica.name if each.ticket.decision else None


def tick(desk, seconds=5):
    desk.now += seconds
    return desk.poll()


def test_a_program_that_fits_starts_at_once_where_the_fewest_tokens_are_active():
    desk = desk_of(1000, 1000)
    requests = [desk.submit(program, tokens=tokens) for program, tokens in (("a", 500), ("b", 300), ("c", 200))]
    assert desk.poll() == ["a", "b", "c"]
    assert [replica_of(each) for each in requests] == ["r0", "r1", "r1"]


def test_a_program_sticks_to_its_replica():
    desk = desk_of(1000, 1000)
    first = desk.submit("a", tokens=500)
    desk.poll()
    desk.end(first)
    desk.submit("b", tokens=100)
    second = desk.submit("a", tokens=600)
    desk.poll()
    assert replica_of(first) == replica_of(second) == "r0"


def test_a_program_that_does_not_fit_is_held_until_one_has_ended():
    desk = desk_of(1000)
    first = desk.submit("a", tokens=500, final=True)
    late = desk.submit("b", tokens=500)
    assert desk.poll() == ["a"]
    assert (tick(desk), desk.next_wakeup()) == ([], 10)
    desk.end(first)
    assert tick(desk) == ["b"]
    assert (replica_of(late), desk.next_wakeup()) == ("r0", None)


def test_nobody_overtakes_the_held_outside_a_tick():
    desk = desk_of(1000)
    desk.submit("a", tokens=500)
    desk.submit("large", tokens=800)
    desk.submit("small", tokens=10)
    assert desk.poll() == ["a"]
    assert tick(desk) == ["small"]


def test_acting_programs_count_half_as_much_with_every_second_when_others_want_to_resume():
    """Left after 2 s: 1000 - 800 / 4 - 100 = 700; after 4 s of acting, 850. The newcomer needs 600 + 100."""
    desk = desk_of(1000)
    first = desk.submit("a", tokens=800)
    desk.submit("b", tokens=601)
    desk.poll()
    desk.now = 3
    desk.end(first)
    assert tick(desk, 2) == []
    assert tick(desk) == ["b"]


def test_what_grows_beyond_the_memory_is_paused_acting_before_reasoning_and_short_before_long():
    """400 + 300 + 200 of 1300, with buffers 1200. The longest grows to 600: 1400, until the shortest that acts goes."""
    desk = desk_of(1300)
    requests = {name: desk.submit(name, tokens=tokens) for name, tokens in (("l", 400), ("m", 300), ("s", 200))}
    assert sorted(desk.poll()) == ["l", "m", "s"]
    desk.now = 4
    for name in "ms":
        desk.end(requests[name])
    desk.end(requests["l"], completion_tokens=200)
    desk.submit("l", tokens=600)
    desk.poll()
    tick(desk, 1)
    desk.now += 1
    desk.submit("m", tokens=300)
    desk.submit("s", tokens=200)
    assert desk.poll() == ["m"]


def test_a_program_that_reasons_is_paused_when_its_request_has_ended():
    desk = desk_of(1000)
    first = desk.submit("a", tokens=400)
    second = desk.submit("b", tokens=300)
    desk.poll()
    desk.end(first, completion_tokens=400)
    desk.submit("a", tokens=800)
    desk.poll()
    tick(desk)
    desk.end(second)
    desk.submit("b", tokens=300)
    assert desk.poll() == []


def test_reasoning_programs_resume_before_new_ones_and_short_before_long():
    """Two of 400 fit into 1000. ``old`` was paused for one that grew and wants to go on with 450; newcomers need less.
    550 - 100 are free: ``old`` alone; then 1000: ``new``, and ``new-long`` no more."""
    desk = desk_of(1000)
    old = desk.submit("old", tokens=300)
    desk.submit("grown", tokens=400, final=True)
    desk.poll()
    desk.end(old)
    desk.submit("grown", tokens=700)
    desk.poll()
    tick(desk)
    old = desk.submit("old", tokens=450)
    desk.submit("new-long", tokens=500)
    desk.submit("new", tokens=340)
    assert desk.poll() == []
    desk.memories = [ReplicaMemory("r0", 1400, float("inf"))]
    assert tick(desk) == ["old"]
    desk.memories = [ReplicaMemory("r0", 1900, float("inf"))]
    assert tick(desk) == ["new"]


def test_the_longest_goes_where_most_room_is():
    desk = desk_of(1000, 2000)
    blockers = [desk.submit("x", tokens=1900, final=True), desk.submit("y", tokens=900, final=True)]
    assert [replica_of(each) for each in blockers] == [None, None]
    desk.poll()
    assert [replica_of(each) for each in blockers] == ["r1", "r0"]
    short, long = desk.submit("short", tokens=700), desk.submit("long", tokens=1500)
    desk.poll()
    for each in blockers:
        desk.end(each)
    tick(desk)
    assert (replica_of(short), replica_of(long)) == ("r0", "r1")


def test_prefixes_that_reasoning_programs_share_count_once():
    """Two programs of 600 on 1000 tokens hold only 700: 500 are shared, and 1000 - 1200 + 500 - 200 = 100 are left."""
    desk = desk_of(1000, used_tokens=700)
    desk.submit("a", tokens=600)
    desk.submit("b", tokens=600)
    assert desk.poll() == ["a"]
    desk.memories = [ReplicaMemory("r0", 1000, 100)]
    assert tick(desk) == ["b"]


def test_whoever_was_held_for_half_an_hour_goes_wherever_he_was():
    desk = desk_of(1000, 1000)
    each = desk.submit("giant", tokens=5000)
    desk.poll()
    while desk.now < 1795:
        assert tick(desk) == []
    assert tick(desk) == ["giant"]
    assert replica_of(each) == "r0"


def test_programs_of_a_replica_that_is_gone_move():
    desk = desk_of(1000, 1000)
    first = desk.submit("a", tokens=500)
    desk.poll()
    desk.end(first)
    desk.memories = desk.memories[1:]
    tick(desk)
    second = desk.submit("a", tokens=500)
    tick(desk)
    assert (replica_of(first), replica_of(second)) == ("r0", "r1")


def test_without_replicas_everybody_is_let_go_to_be_refused():
    desk = desk_of(100)
    desk.submit("a", tokens=500)
    assert desk.poll() == []
    desk.memories = []
    assert tick(desk) == ["a"]
    desk.submit("b", tokens=500)
    assert desk.poll() == ["b"]


def test_a_held_request_can_be_withdrawn():
    desk = desk_of(100)
    each = desk.submit("a", tokens=500)
    desk.poll()
    assert desk.withdraw(each)
    assert (len(desk), desk.next_wakeup()) == (0, None)


@pytest.mark.parametrize("bound", [{"max_programs": 10}, {"idle_s": 60}])
def test_programs_are_forgotten_but_for_those_under_way(bound):
    desk = desk_of(1e6, **bound)
    working = desk.submit("works", tokens=10)
    desk.poll()
    for number in range(50):
        desk.now += 5
        each = desk.submit(f"p{number}", tokens=10)
        desk.poll()
        desk.end(each)
    programs = desk._room.admission._programs
    assert len(programs) <= 13
    assert programs.find(working.request.program_key) is not None


def test_a_request_that_names_no_program_is_forgotten_when_it_ends_however_it_ends():
    desk = desk_of(1000)
    first, second = desk.submit(tokens=400), desk.submit(tokens=300)
    held = desk.submit(tokens=500)
    assert len(desk.poll()) == 2
    desk.end(first)
    desk.end(second, outcome=Outcome.FAILED)
    desk.submit("named", tokens=100)
    desk.withdraw(held)
    programs = desk._room.admission._programs
    assert [each.key for each in programs.paused.values()] == [("", "named")]
    assert (len(programs), programs.active_tokens("r0")) == (1, 0)


def test_it_tells_who_is_in_for_metrics():
    desk = desk_of(2000)
    resting = desk.submit("rests", tokens=400)
    desk.submit("runs", tokens=300)
    desk.submit("too long", tokens=2000)
    desk.poll()
    desk.end(resting, completion_tokens=50)
    assert desk._room.admission.on_replicas() == [OnReplica("r0", 2, 1, 750)]


EVENTS = st.lists(
    st.tuples(st.sampled_from(["submit", "end", "withdraw", "wait"]), st.integers(0, 7), st.integers(1, 900)),
    max_size=60,
)


@given(EVENTS)
def test_nobody_is_held_for_ever_and_books_balance(events):
    desk = desk_of(1000, 700, longest_hold_s=60, used_tokens=0)
    waiting, running = [], []

    def let_go():
        desk.poll()
        for each in [each for each in waiting if each.ticket.decision is not None]:
            waiting.remove(each)
            running.append(each)
        assert len(desk) == len(waiting)

    for what, which, amount in events:
        if what == "submit":
            waiting.append(desk.submit(f"p{which}", tokens=amount))
        elif what == "end" and running:
            desk.end(running.pop(which % len(running)), completion_tokens=amount)
        elif what == "withdraw" and waiting:
            assert desk.withdraw(waiting.pop(which % len(waiting)))
        elif what == "wait":
            desk.now += which
        let_go()
    until_s = desk.now + 70
    while desk.now < until_s and waiting:
        assert desk.next_wakeup() <= desk.now + 5
        desk.now += 5
        let_go()
    assert not waiting
    programs = desk._room.admission._programs
    for replica in desk.memories:
        active = list(programs.active_on(replica.name))
        assert programs.active_tokens(replica.name) == sum(each.tokens for each in active)
        staying = [each.tokens + BUFFER_TOKENS for each in active if not each.marked]
        shared_tokens = programs._shared_tokens.get(replica.name, 0.0)
        assert programs.room_tokens(replica) == replica.capacity_tokens + shared_tokens - sum(staying)
        assert all(each.replica == replica.name and not each.paused for each in active)
    assert all(each.paused and not each.replica for each in programs.paused.values())
