"""Whom an admission holds, against a sorted list: the least rank first, then the first come."""

from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from router.core.fleet import ModelRef
from router.core.flow import Waiting
from router.core.held import Held
from router.core.types import Request, Ticket


class Moods:
    """Programs have ranks, which change at a whim."""

    name = "moods"

    def __init__(self):
        self.ranks = {}

    def rank(self, waiting, now):
        return (self.ranks.get(waiting.request.program_key, 0),)


def make_waiting(number, program=""):
    return Waiting(Ticket(Request(str(number), "m", session_id=program), 0.0), ModelRef("m"), None, number, lambda _: 0)


def test_who_is_not_held_cannot_be_removed():
    held = Held(Moods())
    waiting = make_waiting(0)
    held.put(waiting, 0.0)
    held.remove(waiting)
    with pytest.raises(KeyError):
        held.remove(waiting)


class Model(RuleBasedStateMachine):
    """Who is held is a list, sorted whenever somebody asks."""

    def __init__(self):
        super().__init__()
        self.moods = Moods()
        self.told = {}
        """Ranks as they were when the held were last told of them."""
        self.held = Held(self.moods)
        self.waiting = []
        self.numbers = count()

    programs = st.sampled_from("abcd")

    @rule(program=programs)
    def put(self, program):
        waiting = make_waiting(next(self.numbers), program)
        self.tell({program})
        self.held.put(waiting, 0.0)
        self.waiting.append(waiting)

    @rule(program=programs, rank=st.integers(-2, 2))
    def change_mood(self, program, rank):
        self.moods.ranks["", program] = rank

    @rule(programs=st.sets(programs))
    def tell(self, programs):
        self.held.rank_again([("", program) for program in programs], 0.0)
        self.told |= {("", program): self.moods.ranks.get(("", program), 0) for program in programs}

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def remove(self, data):
        self.held.remove(self.waiting.pop(data.draw(st.integers(0, len(self.waiting) - 1))))

    @invariant()
    def all_are_there_in_order(self):
        expected = sorted(self.waiting, key=lambda each: (self.told[each.request.program_key], each.number))
        assert self.held.first(len(self.waiting) + 1) == expected
        assert self.held.first(2) == expected[:2]
        assert len(self.held) == len(self.waiting)
        assert self.held.programs == len({each.request.program_key for each in self.waiting})


TestHeldAgainstModel = Model.TestCase
TestHeldAgainstModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
