"""What an agent sends through `Program` is what the router reads."""

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Thread

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import router.client
from router.client import Program
from router.core.programs.step import State
from router.core.programs.table import ProgramTable
from router.core.rates import FleetRates
from router.core.types import Outcome, ProgramHint, Request
from router.hints.reader import HintReader


def read(headers):
    """The hint, when all of it is well formed."""
    reader = HintReader()
    hint = reader.read({name.encode(): value.encode("ascii") for name, value in headers.items()}).program
    assert not reader.warnings
    return hint


def places(*steps):
    """Name and what it follows."""
    return [(hint.step, hint.after) for hint in map(read, steps)]


def test_a_run_says_who_it_is_and_every_run_of_a_name_is_another():
    first, second = Program("trip-planner"), Program("trip-planner", kind="planner", run_id="mine", priority=-2)
    assert read(first.headers()) == ProgramHint(first.id, kind="trip-planner")
    assert first.id.startswith("trip-planner-")
    assert first.id != Program("trip-planner").id
    assert read(second.headers()) == ProgramHint("mine", kind="planner", priority=-2)


def test_steps_follow_each_other():
    run = Program("a", run_id="r")
    assert read(run.step("plan", remaining=2, output_tokens=50)) == ProgramHint(
        "r", "plan", kind="a", remaining_steps=2, output_tokens=50
    )
    assert read(run.step("act")) == ProgramHint("r", "act", ("plan",), kind="a")
    assert read(run.step("answer", remaining=0, final=True)) == ProgramHint(
        "r", "answer", ("act",), kind="a", remaining_steps=0, final=True
    )


def test_names_that_come_again_get_numbers():
    run = Program("loop")
    steps = [run.step(name) for name in ("think", "think", "think-2", "think", "", "")]
    assert [name for name, _ in places(*steps)] == ["think", "think-2", "think-2-2", "think-3", "call", "call-2"]


def test_siblings_follow_the_same_step_and_the_step_that_waits_follows_them_all():
    run = Program("a", run_id="r")
    run.step("plan")
    siblings = [run.step(f"search-{number}", join="answer", width=3) for number in range(3)]
    for number, headers in enumerate(siblings):
        assert read(headers) == ProgramHint("r", f"search-{number}", ("plan",), "answer", 3, kind="a")
    assert places(run.step("answer")) == [("answer", ("search-0", "search-1", "search-2"))]


def test_a_join_may_come_again():
    run = Program("debate")
    for number in ("", "-2"):
        hints = [read(run.step(name, join="judge", width=2)) for name in ("pro", "contra")]
        assert [hint.join for hint in hints] == [f"judge{number}"] * 2
        judge = read(run.step("judge"))
        assert (judge.step, judge.after) == (f"judge{number}", (f"pro{number}", f"contra{number}"))


def test_after_tells_of_branches():
    run = Program("a")
    steps = [run.step("plan"), run.step("left", after=["plan"]), run.step("right", after=["plan"])]
    steps += [run.step("left, deeper", after=["left"]), run.step("end")]
    assert places(*steps) == [
        ("plan", ()),
        ("left", ("plan",)),
        ("right", ("plan",)),
        ("left%2C deeper", ("left",)),
        ("end", ("right", "left%2C deeper")),
    ]


def test_a_program_inside_another_is_its_sub_agent():
    with Program("outer") as outer:
        with Program("inner") as inner:
            assert Program.current() is inner
            assert read(Program("innermost").headers()).parent == inner.id
        assert Program.current() is outer
        assert read(inner.step("look")) == ProgramHint(inner.id, "look", parent=outer.id, kind="inner")
        assert read(outer.step("go")).after == ()
    assert Program.current() is None
    assert read(Program("next").headers()).parent == ""


def test_the_with_ends_when_the_agent_fails():
    with pytest.raises(ValueError, match="bad answer"), Program("a"):
        raise ValueError("bad answer")
    assert Program.current() is None


async def test_tasks_are_in_the_program_that_started_them():
    async def look(number):
        with Program("scout") as scout:
            await asyncio.sleep(0)
            return scout.id, read(Program.current().step("look"))

    with Program("lead") as lead:
        found = await asyncio.gather(*(look(number) for number in range(3)))
        assert [hint for _, hint in found] == [
            ProgramHint(scout, "look", parent=lead.id, kind="scout") for scout, _ in found
        ]
        assert await asyncio.to_thread(Program.current) is lead
        assert Program.current() is lead


def test_a_bare_thread_is_told_the_parent():
    hints = []
    with Program("lead") as lead:
        thread = Thread(target=lambda: hints.append(read(Program("scout", parent=lead.id).headers())))
        thread.start()
        thread.join()
    assert [hint.parent for hint in hints] == [lead.id]


def test_threads_share_a_run():
    run = Program("wide")
    run.step("plan")
    with ThreadPoolExecutor(8) as pool:
        hints = list(pool.map(lambda _: read(run.step("vote", join="count")), range(64)))
    assert {hint.after for hint in hints} == {("plan",)}
    names = {hint.step for hint in hints}
    assert len(names) == 64
    assert set(read(run.step("count")).after) == names


def test_the_deadline_counts_from_the_start_of_the_run(monkeypatch):
    now = 100.0
    monkeypatch.setattr(router.client, "monotonic", lambda: now)
    run = Program("a", deadline_s=5)
    assert read(run.step()).deadline_in_s == 5.0
    now = 103.5
    assert read(run.step()).deadline_in_s == 1.5
    now = 200.0
    assert read(run.step()).deadline_in_s == 0.0


def test_a_step_that_waits_for_many_names_those_for_which_there_is_room():
    for name in ("s", "s" * 300):
        run = Program("wide")
        for _ in range(1000):
            last = run.step(name, join="end")
        headers = run.step("end")
        assert len(headers["x-program-after"]) <= 4096
        assert read(headers).after[-1] == read(last).step


def test_the_routers_graph_is_the_agents():
    run, table = Program("debate", run_id="p"), ProgramTable(FleetRates(10_000.0))

    def come(headers):
        return table.observe(Request("", "m", program=read(headers)), 0.0)

    def end(*steps):
        for step in steps:
            table.dispatched(step, 0, 0.0)
            table.ended(step, None, Outcome.OK, 1.0)

    end(come(run.step("plan", remaining=4)))
    for judge, left in (("judge", 2), ("judge-2", 0)):
        end(*[come(run.step(name, join="judge", width=3, remaining=left + 1)) for name in ("pro", "contra", "other")])
        program = table.get(("", "p"))
        assert program.steps[judge].state is State.EXPECTED
        end(come(run.step("judge", remaining=left, final=not left)))
    assert program.finished_s is not None
    assert program.contradicted == 0
    assert sorted(step.level for step in program.steps.values()) == [1, 2, 2, 2, 3, 4, 4, 4, 5]


NAMES = st.text() | st.text(st.characters(), min_size=200, max_size=400) | st.text(",% \t\nä", max_size=9)
NUMBERS = st.none() | st.integers() | st.floats()


@given(*[NAMES] * 6)
@example("", "", "", "", "", "")
@example(*["\ud800"] * 6)
@example(*[" "] * 6)
def test_any_name_is_read_as_it_was_sent(name, run_id, kind, step, join, parent):
    run = Program(name, run_id=run_id, kind=kind, parent=parent)
    sibling = read(run.step(step, join=join))
    assert (sibling.id, sibling.after) == (run.id, ())
    assert sibling.step
    assert bool(sibling.join) == bool(join.strip())
    said = run.headers().get("x-program-parent", "")
    assert bool(said) == bool(parent.strip())
    assert sibling.parent == ("" if said == run.id else said)
    assert read(run.step(step)).after == (sibling.step,)
    assert Program("again", run_id=run.id).id == run.id


@given(st.text(" \n%,abä", min_size=250), st.text(" \n%,abä", max_size=5))
def test_long_names_stay_apart(name, more):
    same = (name + more).strip() == name.strip()
    assert (Program("a", run_id=name).id == Program("a", run_id=name + more).id) == same


@given(*[NUMBERS] * 5)
def test_any_number_is_sent_within_its_bounds(priority, deadline_s, width, remaining, output_tokens):
    run = Program("a", priority=priority, deadline_s=deadline_s)
    hint = read(run.step("s", width=width, remaining=remaining, output_tokens=output_tokens))
    if isinstance(width, int):
        assert hint.width == min(max(width, 1), 10_000)
    if isinstance(remaining, int):
        assert hint.remaining_steps == min(max(remaining, 0), 100_000)


def test_the_import_brings_nothing_but_the_standard_library():
    script = "import sys, router.client; print(*{name.partition('.')[0] for name in sys.modules})"
    loaded = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, check=True).stdout
    assert set(loaded.split()) - sys.stdlib_module_names == {"router", "__main__"} - sys.stdlib_module_names
