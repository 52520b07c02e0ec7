"""What prefix lineage makes of prompts, said as agents send them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.index.hashing import hash_blocks
from router.core.programs.lineage import Lineage
from router.core.programs.lineage_rule import LineageLimits, Relation
from router.core.programs.lineage_trail import trail_of
from router.core.types import Prompt

BLOCK = 16


def text(name, tokens):
    """So many tokens that nothing else has."""
    return np.random.default_rng([ord(letter) for letter in name]).integers(0, 1 << 17, tokens, dtype=np.uint32)


def join(*parts):
    return np.concatenate(parts)


def trail(tokens, tenant="", model="m", media=()):
    return trail_of(Prompt(tokens, media=media), hash_blocks(tokens, BLOCK, 0, media), BLOCK, tenant, model)


class Agents:
    """Sends prompts to a lineage, one every ten seconds if not said otherwise."""

    def __init__(self, **limits):
        self.lineage = Lineage(LineageLimits(**limits))
        self.now = 0.0

    def send(self, tokens, after_s=10.0, tenant="", model="m", media=()):
        self.now += after_s
        return self.lineage.remember(trail(tokens, tenant, model, media), self.now)


@pytest.fixture
def agents():
    return Agents()


HEAD = text("tools and system prompt", 20_000)


def test_a_prompt_that_repeats_all_before_it_is_the_next_step(agents):
    talk = join(HEAD, text("task", 300))
    first = agents.send(talk)
    assert (first.relation, first.step, first.parent) == (Relation.NEW, 1, 0)
    for turn in range(2, 30):
        talk = join(talk, text(f"answer {turn}", 200), text(f"result {turn}", 900))
        kin = agents.send(talk)
        assert (kin.relation, kin.program) == (Relation.EXTENSION, first.program)
        assert (kin.step, kin.parent) == (turn, turn - 1)


def test_a_step_of_a_few_tokens_is_a_step(agents):
    task = join(HEAD, text("task", 300))
    first = agents.send(task)
    kin = agents.send(join(task, text("short", 3)))
    assert (kin.relation, kin.program, kin.parent) == (Relation.EXTENSION, first.program, 1)


def test_programs_that_share_only_a_head_are_different(agents):
    kins = [agents.send(join(HEAD, text(f"task {number}", 700))) for number in range(20)]
    assert {kin.relation for kin in kins} == {Relation.NEW}
    assert len({kin.program for kin in kins}) == 20


def test_nothing_in_common_is_nothing_in_common(agents):
    assert agents.send(text("a", 3000)).program != agents.send(text("b", 3000)).program


def test_children_of_one_prompt_are_siblings(agents):
    plan = join(HEAD, text("task", 900))
    agents.send(plan)
    children = [
        agents.send(join(plan, text(f"part {child}", 400)), after_s=0.0 if child else 9.0) for child in range(5)
    ]
    assert [kin.relation for kin in children] == [Relation.EXTENSION] + [Relation.SIBLING] * 4
    assert {kin.parent for kin in children} == {1}
    assert len({kin.program for kin in children}) == 1


def test_a_fan_out_without_a_parent_prompt_is_one_program(agents):
    context = join(HEAD, text("case file", 40_000))
    branches = [agents.send(join(context, text(f"idea {branch}", 60)), after_s=0.0) for branch in range(8)]
    assert len({kin.program for kin in branches}) == 1
    assert {kin.parent for kin in branches} == {0}
    votes = [agents.send(join(context, text("ideas", 900)), after_s=30.0 if vote == 0 else 0.0) for vote in range(3)]
    assert [kin.relation for kin in votes] == [Relation.FORK, Relation.REPEAT, Relation.REPEAT]
    assert {kin.program for kin in votes} == {branches[0].program}


def test_a_stranger_that_comes_within_a_fan_out_is_no_part_of_it(agents):
    context = join(HEAD[:1000], text("case file", 40_000))
    branches = [agents.send(join(context, text(f"idea {branch}", 60)), after_s=0.0) for branch in range(3)]
    stranger = agents.send(join(HEAD[:1000], text("another case", 40_000)), after_s=0.1)
    assert stranger.program not in {kin.program for kin in branches}


def test_strangers_that_come_one_by_one_are_no_fan_out(agents):
    first = agents.send(join(HEAD, text("task 1", 3000)))
    assert agents.send(join(HEAD, text("task 2", 3000)), after_s=1.0).program != first.program


@pytest.mark.parametrize("kept", [0.95, 0.6])
def test_a_history_that_was_edited_is_recognised(agents, kept):
    talk = join(HEAD, text("task", 300))
    first = agents.send(talk)
    for turn in range(10):
        talk = join(talk, text(f"turn {turn}", 2500))
        agents.send(talk)
    kin = agents.send(join(talk[: int(kept * len(talk))], text("summary", 500)))
    assert kin.program == first.program
    assert kin.relation in (Relation.FORK, Relation.SIBLING)


def test_a_template_that_takes_its_last_words_back_does_not_hide_the_step_before(agents):
    talk = join(HEAD, text("task", 300), text("turn 1", 5000))
    first = agents.send(join(HEAD, text("task", 300)))
    agents.send(join(talk, text("<think>", 20)))
    kin = agents.send(join(talk, text("turn 2", 700)))
    assert (kin.relation, kin.program, kin.parent) == (Relation.EXTENSION, first.program, 2)


def test_an_agent_that_sends_another_task_beyond_a_known_head_goes_on(agents):
    for stranger in range(2):
        agents.send(join(HEAD, text(f"stranger {stranger}", 500)))
    document = join(HEAD, text("document", 6000))
    first = agents.send(join(document, text("question", 40)))
    assert agents.send(join(document, text("another", 90))).program == first.program


def test_short_tasks_behind_a_known_head_are_different(agents):
    for stranger in range(2):
        agents.send(join(HEAD, text(f"stranger {stranger}", 500)))
    kins = [agents.send(join(HEAD, text(f"task {number}", 64))) for number in range(5)]
    assert len({kin.program for kin in kins}) == 5


def test_branches_that_go_on_side_by_side_show_that_their_opening_is_a_head(agents):
    """Tool definitions are known to be common; the system prompt behind them is not."""
    tools = HEAD
    for other in range(2):
        agents.send(join(tools, text(f"other agent {other}", 500)))
    head = join(tools, text("system prompt", 3000))
    talks = [join(head, text(f"task {number}", 800)) for number in range(3)]
    one, two = agents.send(talks[0]), agents.send(talks[1])
    assert one.program == two.program
    agents.send(join(talks[0], text("answer", 300)))
    assert agents.send(talks[2]).relation is Relation.NEW


def test_an_opening_stops_taking_in_strangers(agents):
    agents = Agents(max_bursts=3)
    warm_up = agents.send(HEAD)
    programs = [agents.send(join(HEAD, text(f"task {number}", 900))).program for number in range(6)]
    assert [name == warm_up.program for name in programs] == [True] * 3 + [False] * 3


def test_the_same_prompt_again_is_the_same_step_and_counted(agents):
    task = join(HEAD, text("task", 300))
    first = agents.send(task)
    again = [agents.send(task) for _ in range(3)]
    assert {(kin.relation, kin.program, kin.step) for kin in again} == {(Relation.REPEAT, first.program, 1)}
    assert [kin.repeats for kin in again] == [1, 2, 3]
    agents.send(join(task, text("answer", 100)))
    step = join(task, text("answer", 100), text("result", 100))
    agents.send(step)
    assert agents.send(step).repeats == 1
    agents.send(join(task, text("another answer", 100)))
    assert agents.send(step).repeats == 0


def test_prompts_that_differ_in_their_last_token_are_not_the_same(agents):
    task = text("task", 10 * BLOCK + 5)
    other = task.copy()
    other[-1] += 1
    first, second = agents.send(task), agents.send(other)
    assert (second.relation, second.program, second.step) == (Relation.SIBLING, first.program, 2)


def test_an_opening_that_comes_again_after_it_was_followed_is_another_program(agents):
    opening = text("hello, how can I help you", 100)
    first = agents.send(opening)
    agents.send(join(opening, text("a question", 100)))
    assert agents.send(opening).program != first.program


def test_prompts_below_a_block_are_known_only_word_by_word(agents):
    first = agents.send(text("hi", 7))
    assert agents.send(text("hi", 7)).program == first.program
    assert agents.send(text("hi", 8)).relation is Relation.NEW


def test_images_in_the_last_partial_block_tell_prompts_apart(agents):
    task = text("look", 100)
    first = agents.send(task, media=((98, 1),))
    assert agents.send(task, media=((98, 1),)).relation is Relation.REPEAT
    assert agents.send(task, media=((98, 2),)).relation is Relation.SIBLING
    assert first.step == 1


@pytest.mark.parametrize("other", [{"tenant": "b"}, {"model": "b"}])
def test_tenants_and_models_have_nothing_in_common(agents, other):
    task = join(HEAD, text("task", 300))
    first = agents.send(task)
    kin = agents.send(join(task, text("answer", 500)), **other)
    assert (kin.relation, kin.program == first.program) == (Relation.NEW, False)


def test_to_look_changes_nothing(agents):
    task = join(HEAD, text("task", 300))
    assert agents.lineage.find(trail(task), 0.0).relation is Relation.NEW
    assert (len(agents.lineage), agents.lineage.marks) == (0, 0)
    first = agents.send(task)
    for _ in range(3):
        kin = agents.lineage.find(trail(task), 60.0)
        assert (kin.program, kin.repeats) == (first.program, 1)


def test_names_are_no_ids_that_clients_can_send(agents):
    assert not agents.send(HEAD).program.isascii()


def test_idle_programs_are_forgotten_with_all_their_marks():
    agents = Agents(idle_s=100.0)
    agents.send(join(HEAD, text("a", 500)))
    agents.send(join(HEAD, text("b", 500)), after_s=60.0)
    assert agents.lineage.expire(agents.now + 50.0) == 1
    assert len(agents.lineage) == 1
    assert agents.lineage.expire(agents.now + 100.0) == 1
    assert (agents.lineage.marks, agents.lineage.bytes, agents.lineage.stats.expired) == (0, 0, 2)


def test_thousands_of_programs_that_are_idle_at_once_go_a_few_at_a_time():
    agents = Agents(idle_s=100.0)
    for number in range(1_000):
        agents.send(text(f"{number}", 64), after_s=0.0)
    expired = []
    while len(agents.lineage):
        before = agents.lineage.marks
        expired.append(agents.lineage.expire(agents.now + 101.0))
        assert before - agents.lineage.marks <= 64 * 5, "a prompt of four blocks leaves five marks"
    assert (sum(expired), max(expired)) == (1_000, 64)
    agents.lineage.expire(agents.now + 101.0)
    assert (agents.lineage.marks, agents.lineage.bytes) == (0, 0)


def test_the_marks_of_a_long_program_go_a_few_at_a_time_and_are_nobodys_meanwhile():
    agents = Agents(idle_s=100.0)
    talk = text("task", 64)
    for turn in range(1_000):
        first = agents.send(talk, after_s=1.0)
        talk = join(talk, text(f"turn {turn}", 16))
    marks = agents.lineage.marks
    assert agents.lineage.expire(agents.now + 101.0) == 1
    assert len(agents.lineage) == 0
    assert marks / 2 < agents.lineage.marks < marks
    assert agents.lineage.find(trail(talk), agents.now).relation is Relation.NEW
    kin = agents.send(talk, after_s=101.0)
    assert (kin.relation, kin.program == first.program) == (Relation.NEW, False)
    for _ in range(4):
        agents.lineage.expire(agents.now)
    assert agents.send(join(talk, text("goes on", 100))).program == kin.program
    agents.lineage.forget("", kin.program)
    assert agents.lineage.marks == 0


def test_a_program_that_is_over_is_forgotten(agents):
    first = agents.send(HEAD)
    assert agents.lineage.forget("", first.program)
    assert not agents.lineage.forget("", first.program)
    assert agents.send(HEAD).relation is Relation.NEW


@pytest.mark.parametrize("limits", [{"max_programs": 20}, {"max_bytes": 60_000}])
def test_a_tenant_that_floods_pushes_out_its_own(limits):
    agents = Agents(**limits)
    task = text("task", 400)
    quiet = agents.send(task, tenant="quiet")
    for number in range(200):
        agents.send(text(f"flood {number}", 400), tenant="loud")
    assert agents.send(join(task, text("answer", 50)), tenant="quiet").program == quiet.program
    assert agents.lineage.stats.evicted >= 100
    assert len(agents.lineage) <= 40


def test_a_program_has_a_bound_on_its_steps_and_keeps_together_beyond_it():
    agents = Agents(max_steps=5)
    talk = HEAD
    first = agents.send(talk)
    for turn in range(10):
        talk = join(talk, text(f"turn {turn}", 300))
        kin = agents.send(talk)
        assert kin.program == first.program
    assert (kin.step, agents.lineage.stats.unmarked) == (0, 6)


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_loops_with_texts_of_their_own_are_never_mixed_up_nor_torn(data):
    """Several agents with one head, in any order; prompts of any length, every one of them longer than the last."""
    agents = Agents()
    talks = {}
    names = {}
    for _ in range(data.draw(st.integers(1, 40))):
        who = data.draw(st.integers(0, 4))
        turn = talks.get(who, HEAD[: 16 * 40])
        grown = data.draw(st.integers(16, 3000))
        talks[who] = join(turn, text(f"{who} {len(turn)}", grown))
        kin = agents.send(talks[who])
        if who in names:
            assert (kin.program, kin.relation) == (names[who], Relation.EXTENSION)
        else:
            assert kin.relation is Relation.NEW
        names[who] = kin.program
    assert len(set(names.values())) == len(names)
