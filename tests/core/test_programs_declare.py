"""Declared graphs: what is accepted, and what a refusal says."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.programs.declare import DeclarationError, read_declaration
from router.core.programs.table import ProgramTable, TableLimits
from router.core.types import ProgramHint, Request


def steps(**after):
    return {"steps": [{"name": name, "after": list(names)} for name, names in after.items()]}


def refusal(document, **limits):
    with pytest.raises(DeclarationError) as caught:
        read_declaration(document, **limits)
    return caught.value.place, caught.value.message


def test_everything_that_can_be_said():
    declaration = read_declaration(
        {
            "class": "review",
            "deadline_ms": 60000,
            "priority": 2,
            "steps": [
                {"name": "plan", "prompt_tokens": 100, "output_tokens": 30},
                {"name": "search", "after": ["plan"], "tool_ms": 1.5, "class": "web"},
            ],
        }
    )
    assert (declaration.kind, declaration.deadline_ms, declaration.priority) == ("review", 60000, 2)
    plan, search = declaration.steps
    assert (plan.prompt_tokens, plan.output_tokens, plan.tool_ms, plan.after) == (100, 30, None, ())
    assert (search.after, search.tool_ms, search.kind) == (("plan",), 1.5, "web")


@pytest.mark.parametrize(
    ("document", "place", "message"),
    [
        (3, "", "Expected `object`, got `int`"),
        ([], "", "Expected `object`, got `array`"),
        ({}, "", "missing required field `steps`"),
        ({"steps": {}}, "steps", "Expected `array`"),
        ({"steps": []}, "steps", "at least one step"),
        ({"steps": ["a"]}, "steps[0]", "Expected `object`, got `str`"),
        ({"steps": [{"name": "a"}, {}]}, "steps[1]", "missing required field `name`"),
        ({"steps": [{"name": ""}]}, "steps[0].name", "length >= 1"),
        ({"steps": [{"name": "a" * 257}]}, "steps[0].name", "length <= 256"),
        ({"steps": [{"name": "a", "afer": []}]}, "steps[0]", "unknown field `afer`"),
        ({"steps": [{"name": "a", "after": "b"}]}, "steps[0].after", "Expected `array`"),
        ({"steps": [{"name": "a"}, {"name": "b", "after": ["a", 3]}]}, "steps[1].after[1]", "not 3"),
        ({"steps": [{"name": "a"}, {"name": "b", "after": ["a" * 300]}]}, "steps[1].after[0]", "name of a step"),
        ({"steps": [{"name": "a", "output_tokens": -1}]}, "steps[0].output_tokens", ">= 0"),
        ({"steps": [{"name": "a", "output_tokens": 1.5}]}, "steps[0].output_tokens", "got `float`"),
        ({"steps": [{"name": "a", "prompt_tokens": True}]}, "steps[0].prompt_tokens", "got `bool`"),
        ({"steps": [{"name": "a", "prompt_tokens": 1 << 80}]}, "steps[0].prompt_tokens", "<= 100000000"),
        ({"steps": [{"name": "a", "tool_ms": float("nan")}]}, "steps[0].tool_ms", ">= 0"),
        ({"steps": [{"name": "a", "tool_ms": float("inf")}]}, "steps[0].tool_ms", "<= "),
        ({"steps": [{"name": "a"}], "deadline_ms": "soon"}, "deadline_ms", "got `str`"),
        ({"steps": [{"name": "a"}], "priority": 10_000}, "priority", "<= 1000"),
        ({"steps": [{"name": "a"}], "stesp": []}, "", "unknown field `stesp`"),
        (steps(a=[], b=["a", "x"]), "steps[1].after[1]", "no step is named 'x'"),
        (steps(a=[], b=["a", "a"]), "steps[1].after[1]", "'a' is named twice"),
        ({"steps": [{"name": "a"}, {"name": "a"}]}, "steps[1].name", "'a' is the name of steps[0] already"),
        (steps(a=["a"]), "steps[0].after[0]", "in a cycle: a -> a"),
        (steps(a=["b"], b=["a"]), "steps[1].after[0]", "in a cycle: a -> b -> a"),
        (steps(x=[], a=["x", "c"], b=["a"], c=["b"], y=["c"]), "steps[2].after[0]", "in a cycle: a -> b -> c -> a"),
    ],
)
def test_a_refusal_names_the_place(document, place, message):
    found = refusal(document)
    assert found[0] == place
    assert message in found[1]


def test_a_long_cycle_is_spelled_out_in_part():
    _, message = refusal(steps(**{f"s{number}": [f"s{(number + 1) % 500}"] for number in range(500)}))
    assert message.count(" -> ") == 20
    assert " -> ... -> " in message


def test_too_large_graphs():
    many = steps(**{f"s{number}": [] for number in range(101)})
    assert refusal(many, max_steps=100) == ("steps", "101 steps, at most 100 are accepted")
    dense = steps(**{f"s{number}": [f"s{before}" for before in range(number)] for number in range(200)})
    assert refusal(dense) == ("steps[181].after", "more than 16,384 edges up to here")


def test_steps_that_came_count_too():
    table = ProgramTable(limits=TableLimits(max_steps=4))
    for name in ("x", "y"):
        table.observe(Request(name, "m", program=ProgramHint("p", name)), 0.0)
    fits, too_many = steps(a=[], x=["a"], b=[]), steps(a=[], b=[], c=[])
    with pytest.raises(DeclarationError, match="3 steps and 2 that came already, at most 4"):
        table.declare(("", "p"), read_declaration(too_many), 0.0)
    assert not table.get(("", "p")).declared
    assert table.declare(("", "p"), read_declaration(fits), 0.0).declared


def test_a_refused_declaration_makes_no_program():
    table = ProgramTable(limits=TableLimits(max_steps=1))
    with pytest.raises(DeclarationError):
        table.declare(("", "p"), read_declaration(steps(a=[], b=[])), 0.0)
    assert len(table) == 0


graphs = st.dictionaries(
    st.sampled_from("abcdefg"), st.sets(st.sampled_from("abcdefg"), max_size=4).map(sorted), min_size=1
)


@given(graph=graphs)
def test_what_is_accepted_has_an_order_and_what_is_not_has_none(graph):
    document = steps(**graph)
    try:
        order = [step.name for step in read_declaration(document).steps]
    except DeclarationError as error:
        known = set(graph)
        left = {name for name, after in graph.items() if set(after) <= known}
        if "cycle" in error.message:
            spelled = error.message.rpartition(": ")[2].split(" -> ")
            assert spelled[0] == spelled[-1]
            assert all(before in graph[after] for before, after in pairwise(spelled))
        else:
            assert left != known
    else:
        assert sorted(order) == sorted(graph)
        for name, after in graph.items():
            assert all(order.index(before) < order.index(name) for before in after)
