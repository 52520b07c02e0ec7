"""What is remembered of programs is bounded, and forgotten when nobody asks."""

import pytest

from flow.programs import LruByProgram

A, B, C = ("", "a"), ("", "b"), ("", "c")


def table(**bounds):
    made = []

    def make():
        made.append(len(made))
        return made[-1]

    return LruByProgram(make, **bounds)


def test_a_program_keeps_its_entry():
    programs = table()
    assert [programs.use(A, 0), programs.use(B, 1), programs.use(A, 2)] == [0, 1, 0]
    assert (programs.find(B), programs.find(C), len(programs)) == (1, None, 2)


def test_equal_names_of_other_tenants_are_other_programs():
    programs = table()
    assert programs.use(("one", "a"), 0) != programs.use(("two", "a"), 0)


def test_the_least_recently_used_goes_when_there_are_too_many():
    programs = table(capacity=2)
    programs.use(A, 0)
    programs.use(B, 1)
    programs.use(A, 2)
    programs.use(C, 3)
    assert [key for key, _ in programs] == [A, C]


def test_looking_does_not_count_as_using():
    programs = table(capacity=2)
    programs.use(A, 0)
    programs.use(B, 1)
    programs.find(A)
    programs.use(C, 3)
    assert programs.find(A) is None


def test_an_idle_program_comes_back_as_a_new_one():
    programs = table(idle_s=60)
    programs.use(A, 0)
    assert programs.use(A, 59) == 0
    assert programs.use(A, 119) == 1


def test_idle_programs_take_no_room():
    programs = table(idle_s=60)
    programs.use(A, 0)
    programs.use(B, 30)
    programs.use(C, 70)
    assert [key for key, _ in programs] == [B, C]


@pytest.mark.parametrize("bounds", [{"capacity": 0}, {"idle_s": 0}])
def test_bounds_must_leave_room_for_something(bounds):
    with pytest.raises(ValueError, match="capacity"):
        table(**bounds)
