"""The working-set admission: contexts of programs stay within the KV memory. Each answer is expected to take 256."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from flow_world import waiting
from hypothesis import given
from hypothesis import strategies as st

from flow.admission.working_set import WorkingSet
from router.core.flow import Fcfs, OnReplica, Order, ReplicaMemory, Waiting
from router.core.held import Held
from router.core.prefix import Chain
from router.core.types import Decision, Outcome, ReplicaSpec, Usage

BLOCK = 16
STRETCH = 256


def chain_of(*parts: tuple[str, int]) -> Chain:
    """Of a prompt that is made of named parts of so many stretches: equal beginnings have equal hashes."""
    hashes, seed = [], 0
    for name, stretches in parts:
        for block in range(stretches * STRETCH // BLOCK):
            seed = hash((seed, name, block)) & (2**64 - 1)
            hashes.append(seed)
    return Chain(len(hashes) * BLOCK, True, {BLOCK: np.array(hashes, np.uint64)})


class Door:
    """An admission in front of replicas r0, r1, ... What may go anywhere goes to the first of them. First come, first
    served, or by ``order``."""

    def __init__(
        self, *capacities_tokens: float, rate: float = 10_000.0, order: Order | None = None, **settings: float
    ) -> None:
        self.admission = WorkingSet(**settings)
        self.replicas = [ReplicaMemory(f"r{i}", tokens, 0.0, rate) for i, tokens in enumerate(capacities_tokens)]
        self.now = 0.0
        self.anywhere = "r0"
        self.running: dict[Waiting, str] = {}
        self.held: list[Waiting] = []
        self.ranked = Held(order or Fcfs())

    def submit(self, program: str, *parts: tuple[str, int], **hint: object) -> Waiting:
        chain = chain_of(*parts)
        each = waiting(program, self.now, tokens=chain.prompt_tokens, **hint)
        each.chain = chain
        if self.admission.enter(each, self.replicas, self.now):
            self._dispatch(each)
        else:
            self.held.append(each)
            self.ranked.put(each, self.now)
        return each

    def poll(self) -> list[Waiting]:
        released = self.admission.release(self.ranked, lambda: self.replicas, self.now)
        for each in released:
            self.held.remove(each)
            self.ranked.remove(each)
        for each in released:
            self._dispatch(each)
        return released

    def end(self, each: Waiting, completion_tokens: int = 256, outcome: Outcome = Outcome.OK) -> None:
        del self.running[each]
        self.admission.ended(each.ticket, Usage(each.request.prompt_tokens, 0, completion_tokens), outcome, self.now)

    def leave(self, each: Waiting) -> None:
        """The client of a held request is gone."""
        self.held.remove(each)
        self.ranked.remove(each)
        self.admission.withdraw(each)
        self.admission.withdrawn(each, self.now)

    def _dispatch(self, each: Waiting) -> None:
        replica = each.pinned or self.anywhere
        each.ticket.decision = Decision(ReplicaSpec(replica, "http://any"), 0)
        each.ticket.dispatched_s = self.now
        self.running[each] = replica
        self.admission.dispatched(each, self.now)


def test_while_memory_is_plentiful_nobody_is_held_or_told_where_to_go():
    door = Door(100_000, 100_000)
    calls = [door.submit(f"p{i}", (f"p{i}", 40)) for i in range(9)]
    assert not door.held
    assert {each.pinned for each in calls} == {""}


def test_who_does_not_fit_waits_until_a_program_is_over():
    door = Door(6000)
    first = door.submit("a", ("a", 16), final=True)
    second = door.submit("b", ("b", 16))
    assert door.held == [second]
    assert door.poll() == []
    door.end(first)
    assert door.poll() == [second]


def test_who_does_not_fit_here_goes_where_there_is_room():
    door = Door(6000, 6000)
    door.submit("a", ("a", 16))
    assert door.submit("b", ("b", 16)).pinned == "r1"


def test_what_programs_share_is_counted_once():
    door = Door(10_000)
    door.submit("a", ("tools", 30), ("a", 2))
    door.submit("b", ("tools", 30), ("b", 2))
    assert not door.held
    assert door.submit("c", ("other tools", 30), ("c", 2)) in door.held


def test_siblings_are_placed_with_what_they_share():
    door = Door(9000, 8000)
    siblings = [door.submit("swarm", ("context", 20), (f"child {i}", 1)) for i in range(4)]
    assert not door.held
    assert {door.running[each] for each in siblings} == {"r0"}


def test_a_program_that_is_in_goes_on_at_once_and_where_its_context_is():
    door = Door(12_000, 12_000)
    first = door.submit("a", ("a", 16))
    door.submit("b", ("b", 16))
    door.end(first)
    door.anywhere = "r1"
    for name in "cd":
        door.submit(name, (name, 16))
    held = door.submit("e", ("e", 30))
    assert door.held == [held]
    assert door.submit("a", ("a", 16), ("answer", 1)).pinned == "r0"


def test_who_rests_keeps_its_place_from_newcomers_for_as_long_as_their_prefill_would_take():
    """Nothing is known of tools: whoever rests is expected after 10 s, later after as long again. The newcomer's 4,352
    tokens take 43.5 s, and nobody else is slowed down."""
    door = Door(6000, rate=100.0)
    door.end(door.submit("a", ("a", 16)))
    newcomer = door.submit("b", ("b", 16))
    door.now = 40.0
    assert door.poll() == []
    door.now = 44.0
    assert door.poll() == [newcomer]


def test_where_prefill_is_cheap_who_rests_gives_way_at_once():
    door = Door(6000)
    door.end(door.submit("a", ("a", 16)))
    door.submit("b", ("b", 16))
    assert not door.held


def test_what_is_over_gives_way_at_once():
    door = Door(6000, rate=1.0)
    door.end(door.submit("a", ("a", 16), final=True))
    door.end(door.submit("", ("no program", 16)))
    door.submit("c", ("c", 16))
    assert not door.held


def test_branches_that_a_program_no_longer_goes_on_from_give_way():
    door = Door(8000, rate=1.0)
    branches = [door.submit("tree", ("root", 10), (f"branch {i}", 4)) for i in range(3)]
    for each in branches:
        door.end(each)
    door.end(door.submit("tree", ("root", 10), ("vote", 1)))
    door.submit("b", ("b", 10))
    assert not door.held


class ShortestFirst:
    name = "shortest-first"

    def rank(self, waiting, now):
        return (waiting.request.prompt_tokens,)


def test_who_is_held_is_let_in_by_the_order_of_the_queue():
    door = Door(8000, order=ShortestFirst())
    first = door.submit("a", ("a", 20))
    long, short = door.submit("b", ("b", 18)), door.submit("c", ("c", 16))
    assert door.held == [long, short]
    door.end(first)
    assert door.poll() == [short]


def test_what_a_newcomer_shares_with_who_gives_way_is_not_counted_as_room():
    door = Door(8000)
    door.end(door.submit("rests", ("head", 1)))
    door.submit("large", ("large", 28))
    newcomer = door.submit("newcomer", ("head", 2))
    assert door.held == [newcomer]


def test_a_call_that_fits_nowhere_runs_alone():
    door = Door(6000)
    first = door.submit("a", ("a", 8))
    large = door.submit("large", ("large", 100))
    assert door.held == [large]
    door.end(first)
    assert door.poll() == [large]


def test_two_calls_that_need_the_whole_memory_are_not_let_in_together():
    door = Door(8000, rate=100.0)
    root = door.submit("a", ("a", 15))
    branch = door.submit("a", ("a", 15), ("branch", 7))
    for turn in ("one", "two"):
        door.submit("a", ("a", 15), ("branch", 7), (turn, 9))
    assert len(door.held) == 2
    for each in (branch, root):
        door.end(each)
    assert len(door.poll()) == 1


def test_who_was_held_for_long_goes_first_and_then_in_any_case():
    door = Door(6000, longest_hold_s=60.0)
    door.submit("a", ("a", 16))
    large = door.submit("large", ("large", 16))
    door.now = 30.0
    small = door.submit("small", ("small", 2))
    assert door.poll() == [small]
    door.now = 61.0
    door.submit("another", ("another", 2))
    assert door.poll() == []
    door.now = 120.0
    assert door.poll() == [large]


def test_only_replicas_that_may_serve_it_count():
    door = Door(6000)
    door.submit("a", ("a", 16))
    door.replicas.append(ReplicaMemory("other", 60_000, 0.0, model="other model"))
    assert door.submit("b", ("b", 16)) in door.held


def test_a_program_whose_replica_may_not_serve_it_any_more_goes_elsewhere():
    door = Door(12_000, 6000, rate=1.0)
    door.end(door.submit("a", ("a", 16)))
    door.submit("b", ("b", 24))
    door.replicas[0] = door.replicas[0]._replace(model="other model")
    assert door.submit("a", ("a", 16), ("answer", 1)).ticket.decision
    assert not door.held


def test_memory_of_a_replica_that_is_gone_is_forgotten():
    door = Door(6000, 6000)
    door.end(door.submit("a", ("a", 16)))
    door.replicas = door.replicas[1:]
    door.anywhere = "r1"
    again = door.submit("a", ("a", 16), ("answer", 1))
    assert door.running[again] == "r1"
    assert list(door.admission._places._places) == ["r1"]


def test_memory_of_a_replica_that_is_gone_is_forgotten_though_others_were_never_used():
    door = Door(6000, 6000, 6000)
    door.end(door.submit("a", ("a", 16)))
    door.replicas = door.replicas[1:]
    door.anywhere = "r1"
    door.submit("b", ("b", 1))
    assert [each.replica for each in door.admission.on_replicas()] == ["r1", "r2"]


def test_without_any_replica_nobody_is_held():
    door = Door(6000)
    door.submit("a", ("a", 16))
    held = door.submit("b", ("b", 16))
    door.replicas = []
    assert door.poll() == [held]


def test_nothing_is_left_of_a_held_request_that_is_withdrawn():
    door = Door(6000)
    first = door.submit("a", ("a", 16), final=True)
    held = door.submit("b", ("b", 16))
    door.leave(held)
    door.end(first)
    assert door.poll() == []
    assert (door.admission.next_wakeup(), len(door.admission._members)) == (None, 0)


def test_a_program_whose_context_gave_way_is_forgotten():
    door = Door(6000)
    for name in "abc":
        door.end(door.submit(name, (name, 16)))
    assert [key[1] for key in door.admission._members] == ["c"]


def test_a_program_that_came_again_is_known_though_what_it_left_before_gives_way():
    door = Door(12_000)
    door.end(door.submit("z", ("z", 1)))
    door.end(door.submit("a", ("a", 16), final=True))
    again = door.submit("a", ("b", 16))
    assert len(door.admission._places.at("r0").resting) == 2
    door.submit("c", ("c", 16))
    assert not door.admission._places.at("r0").resting
    door.end(again)
    assert [each.key[1] for each in door.admission._members.values() if each.contexts] == ["a", "c"]


def test_it_tells_who_is_in_for_metrics():
    """Two branches of one program and a call of another, of 8, 8 and 4 stretches with 4 in common, and answers."""
    door = Door(100_000)
    branches = [door.submit("a", ("root", 4), (branch, 4)) for branch in ("left", "right")]
    door.submit("b", ("b", 4))
    door.end(branches[0])
    assert door.admission.on_replicas() == [OnReplica("r0", 2, 1, 16 * STRETCH + 3 * 256)]
    for each in list(door.running):
        door.end(each)
    door.end(door.submit("c", ("c", 1), final=True))
    assert door.admission.on_replicas() == [OnReplica("r0", 2, 3, 17 * STRETCH + 4 * 256)]


def wanted_tokens(door: Door, replica: str) -> float:
    """What contexts want there, counted plainly."""
    place = door.admission._places.at(replica)
    running = {door.admission._open[each.ticket] for each, name in door.running.items() if name == replica}
    contexts = {*place.resting, *running}
    stretches = {stretch for context in contexts for stretch in context.stretches}
    return len(stretches) * STRETCH + sum(context.rest_tokens for context in contexts)


actions = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(1, 12), st.sampled_from(["call", "end", "go", "wait"])),
    max_size=60,
)


@given(actions, st.integers(1, 2), st.sampled_from([100.0, 10_000.0]))
def test_contexts_stay_within_the_memory_and_nobody_waits_for_ever(acts, replicas, rate):
    door = Door(*[8000] * replicas, rate=rate, longest_hold_s=1e9)
    turns: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for program, head, size, act in acts:
        door.now += 1.0
        if act == "call":
            own = turns[program]
            own.append((f"{program}.{len(own)}", size) if own else (f"head {head}", size))
            door.submit(f"p{program}", *own, final=size == 1)
        elif act == "end" and door.running:
            door.end(list(door.running)[size % len(door.running)])
        elif act == "go" and door.held:
            door.leave(door.held[size % len(door.held)])
        elif act == "wait":
            door.now += 10.0 * size
        door.poll()
        for each in door.replicas:
            place = door.admission._places.at(each.name)
            assert place.tokens == wanted_tokens(door, each.name)
            assert place.tokens <= each.capacity_tokens or place.open <= 1
        members = set(door.admission._members.values())
        assert all(member.contexts or member.open or member.held for member in members)
        assert {context.program for context in door.admission._open.values()} <= members
    for _ in range(1000):
        if not (door.held or door.running):
            break
        for each in list(door.running):
            door.end(each)
        door.now += 60.0
        door.poll()
    assert not door.held
    assert door.admission._places.coming_tokens == 0.0
    assert not any(member.open or member.held for member in door.admission._members.values())


class Forgetful(WorkingSet):
    """Looks at all places again whenever somebody asks."""

    def enter(self, waiting, replicas, now):
        self.forget()
        return super().enter(waiting, replicas, now)

    def release(self, held, memories, now):
        self.forget()
        return super().release(held, memories, now)

    def forget(self) -> None:
        for _, place in self._places.by_replica():
            place.offer = None
        for wait in self._waits.values():
            wait.context.refused = None


@given(
    st.lists(
        st.tuples(
            st.integers(0, 9),
            st.integers(0, 2),
            st.integers(1, 9),
            st.sampled_from(["call", "call", "call", "end", "go", "rate"]),
            st.sampled_from([0.0, 0.01, 0.1, 0.3, 5.0]),
        ),
        min_size=20,
        max_size=60,
    ),
    st.sampled_from([[3500], [3500, 3500], [3000, 4000, 5000]]),
    st.sampled_from([300.0, 10_000.0]),
)
def test_what_is_remembered_of_places_is_what_looking_again_would_find(acts, capacities, rate):
    doors = Door(*capacities, rate=rate), Door(*capacities, rate=rate)
    doors[1].admission = Forgetful()
    turns: dict[int, list[tuple[str, int]]] = defaultdict(list)
    for program, head, size, act, pause_s in acts:
        if act == "call":
            own = turns[program]
            own.append((f"{program}.{len(own)}", size) if own else (f"head {head}", size))
        seen = []
        for door in doors:
            door.now += pause_s
            if act == "call":
                door.submit(f"p{program}", *turns[program])
            elif act == "end" and door.running:
                door.end(list(door.running)[size % len(door.running)], completion_tokens=100 * size)
            elif act == "go" and door.held:
                door.leave(door.held[size % len(door.held)])
            elif act == "rate":
                first = door.replicas[0]
                door.replicas[0] = first._replace(prefill_tokens_per_s=rate * size)
            door.poll()
            held = [each.request.session_id for each in door.held]
            seen.append((held, [(each.request.session_id, name, each.pinned) for each, name in door.running.items()]))
        assert seen[0] == seen[1]


@given(actions)
def test_nobody_is_held_while_memory_is_free(acts):
    door = Door(4_000_000, 4_000_000, rate=1.0)
    for program, head, size, act in acts:
        if act == "end" and door.running:
            door.end(next(iter(door.running)))
        else:
            each = door.submit(f"p{program}", (f"head {head}", size))
            assert each.pinned == ""
    assert not door.held
