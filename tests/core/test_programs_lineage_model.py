"""The marks of prefix lineage against a plain model that compares every prompt with all that were ever marked."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.index.hashing import hash_blocks
from router.core.programs.lineage import Lineage
from router.core.programs.lineage_marks import END, NEAR_END, Found
from router.core.programs.lineage_rule import Kin, KnownProgram, LineageLimits, Relation, entered, joined, repeated
from router.core.programs.lineage_trail import trail_of
from router.core.types import Prompt

BLOCK = 2
LIMITS = LineageLimits(max_programs=6, max_steps=5, idle_s=50.0, own_blocks=4, max_bursts=3)
NEAR = (1, 2, 4, 8)


def is_regular(blocks):
    return len(f"{blocks:b}".rstrip("0")) <= 4


class Model:
    """Prefixes as tuples of tokens, and who passed them. The rule itself is taken as it is."""

    def __init__(self):
        self.programs = {}
        self.passed = {}
        """(tenant, prefix or whole prompt) -> who passed it: number -> True."""
        self.step = {}
        self.end = {}
        self.made = 0

    def remember(self, tenant, tokens, trail, now):
        kin, found, program = self._find(tenant, tokens, trail, now)
        if program is None:
            self.made += 1
            blocks = len(tokens) // BLOCK
            program = KnownProgram((tenant, str(self.made)), self.made, blocks, blocks, now, now)
        else:
            del self.programs[program.number]
        self.programs[program.number] = program
        program.seen_s = now
        if kin.relation is Relation.REPEAT:
            program.last, program.repeats = kin.step, kin.repeats
            program.steps[kin.step - 1].seen_s = now
            return kin
        program.last = program.repeats = 0
        if len(program.steps) < LIMITS.max_steps:
            program.last = entered(program, kin, trail, now, LIMITS)
            self._mark(program, tenant, tokens, kin, found)
            if len(self.programs) > LIMITS.max_programs:
                self._evict(tenant)
        return kin._replace(program=program.key[1], step=program.last)

    def expire(self, now):
        idle = [each.number for each in self.programs.values() if each.seen_s <= now - LIMITS.idle_s]
        for number in idle:
            self._forget(number)
        return len(idle)

    def _find(self, tenant, tokens, trail, now):
        marked = [
            depth for depth in range(1, len(tokens) // BLOCK + 1) if (tenant, tokens[: depth * BLOCK]) in self.passed
        ]
        common = 0
        for depth, following in pairwise([depth for depth in range(1, 100) if is_regular(depth)]):
            if depth in marked and len(self.passed[tenant, tokens[: depth * BLOCK]]) > 1:
                common = following - 1
        depth = max(marked, default=0)
        place = tenant, tokens[: depth * BLOCK]
        whole = tenant, tokens, "whole"
        found = Found(
            depth,
            place if depth else 0,
            self._alone(place) if depth else 0,
            self.step.get(place, 0) if depth else 0,
            self.end.get(place, 0) if depth else 0,
            common,
            self._alone(whole),
            self.step.get(whole, 0),
        )
        if found.exact_owner or found.owner:
            program = self.programs[found.exact_owner or found.owner]
            if found.exact_owner:
                kin = repeated(program, found, now, LIMITS)
            else:
                kin = joined(program, found, trail, now, LIMITS)
            if kin is not None:
                return kin, found, program
        return Kin(Relation.NEW), found, None

    def _alone(self, place):
        passed = self.passed.get(place, {})
        return next(iter(passed)) if len(passed) == 1 else 0

    def _mark(self, program, tenant, tokens, kin, found):
        blocks = len(tokens) // BLOCK
        if kin.relation is Relation.FORK:
            self.end[found.mark] = 0
        new = range(kin.shared_blocks + 1, blocks + 1)
        depths = {depth for depth in new if is_regular(depth) or blocks - depth in (0, *NEAR)}
        places = [(tenant, tokens[: depth * BLOCK]) for depth in sorted(depths)]
        if kin.relation is Relation.NEW and found.mark and found.mark not in places:
            places.append(found.mark)
        for place in [*places, (tenant, tokens, "whole")]:
            passed = self.passed.setdefault(place, {})
            if not passed:
                self.step[place], self.end[place] = program.last, 0
            passed[program.number] = True
        for left in (0, *NEAR):
            place = tenant, tokens[: (blocks - left) * BLOCK]
            if (blocks - left in new or (left == 0 and blocks)) and len(self.passed[place]) == 1:
                self.step[place], self.end[place] = program.last, NEAR_END if left else END

    def _evict(self, tenant):
        """The longest unused of the tenant that holds most, by powers of two; rather of the one that came."""
        held = {}
        for each in self.programs.values():
            held.setdefault(each.key[0], []).append(each.number)
        most = max(len(numbers).bit_length() for numbers in held.values())
        first = tenant if len(held.get(tenant, ())).bit_length() == most else None
        if first is None:
            (first,) = [name for name, numbers in held.items() if len(numbers).bit_length() == most]
        self._forget(held[first][0])

    def _forget(self, number):
        del self.programs[number]
        for place, passed in list(self.passed.items()):
            if number in passed:
                del passed[number]
                self.step[place] = self.end[place] = 0
                if not passed:
                    del self.passed[place]


@st.composite
def prompts(draw):
    """Each made from an earlier one by cutting it off and going on, or from nothing; with pauses, and two tenants."""
    sent = [()]
    steps = []
    for _ in range(draw(st.integers(1, 25))):
        base = sent[draw(st.integers(0, len(sent) - 1))]
        kept = base[: draw(st.integers(0, len(base)))] if draw(st.booleans()) else base
        letter = draw(st.integers(0, 2))
        tokens = kept + (letter,) * draw(st.sampled_from([0, 1, 2, 3, 5, 9, 40]))
        if tokens:
            sent.append(tokens)
            steps.append((tokens, draw(st.sampled_from(["a", "a", "b"])), draw(st.sampled_from([0.0, 0.3, 2.0, 30.0]))))
    return steps


@settings(max_examples=300, deadline=None)
@given(prompts())
def test_lineage_is_what_the_model_says(steps):
    lineage, model, names, now = Lineage(LIMITS), Model(), {}, 0.0
    for tokens, tenant, pause_s in steps:
        now += pause_s
        array = np.array(tokens, np.uint32)
        trail = trail_of(Prompt(array), hash_blocks(array, BLOCK, 0), BLOCK, tenant, "")
        assert lineage.expire(now) == model.expire(now)
        looked = lineage.find(trail, now)
        expected = model.remember(tenant, tokens, trail, now)
        kin = lineage.remember(trail, now)
        assert kin._replace(program="") == expected._replace(program="")
        assert looked.relation is kin.relation
        assert names.setdefault(kin.program, expected.program) == expected.program
        assert len(lineage) == len(model.programs)
        assert lineage.marks == len(model.passed)
    lineage.expire(now + 1000.0)
    assert (len(lineage), lineage.marks, lineage.bytes) == (0, 0, 0)
