"""Single values of hints, from headers (bytes) and from JSON."""

import pytest

from router.hints.values import MalformedError, duration, flag, level, name, names, whole


@pytest.mark.parametrize(
    ("value", "read"),
    [(b"run-1", "run-1"), ("run 1", "run 1"), (b"\t run ", "run"), (b"", ""), (17, "17"), (b"~" * 256, "~" * 256)],
)
def test_names(value, read):
    assert name(value) == read


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"x" * 10_000, "too long"),
        ("x" * 257, "too long"),
        (b"a\x00b", "not printable ASCII"),
        (b"a\r\nb", "not printable ASCII"),
        ("a\n", "not printable ASCII"),
        (b"\xc3\xa9", "not printable ASCII"),
        ("\ud800", "not printable ASCII"),
        (10**400, "not a text"),
        (True, "not a text"),
        (1.5, "not a text"),
        ([], "not a text"),
    ],
)
def test_what_cannot_be_a_name(value, reason):
    with pytest.raises(MalformedError, match=f"^{reason}$"):
        name(value)


@pytest.mark.parametrize(
    ("value", "read"),
    [(b"a, b,,a", ("a", "b")), (["a", "b"], ("a", "b")), (b"", ()), (b",".join([b"x%d" % i for i in range(64)]), 64)],
)
def test_lists_of_names(value, read):
    assert names(value) == read or len(names(value)) == read


@pytest.mark.parametrize("value", [b"," * 64, ["a"] * 65, b"x" * 20_000, b"a,\x01", [1.5], {}])
def test_what_cannot_be_a_list_of_names(value):
    with pytest.raises(MalformedError):
        names(value)


@pytest.mark.parametrize(
    ("value", "read"), [(b"0", 0), (b"10", 10), ("7", 7), (7, 7), (7.0, 7), (b"+7", 7), (b"7.0", 7), (b"-2", -2)]
)
def test_whole_numbers(value, read):
    assert whole(-2, 10)(value) == read


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"11", "out of range"),
        (b"-3", "out of range"),
        (10**400, "out of range"),
        (float("nan"), "out of range"),
        (float("inf"), "out of range"),
        (b"1.5", "not a whole number"),
        (1.5, "not a whole number"),
        (b"1_0", "not a number"),
        ("\u0661", "not a number"),
        (b"9" * 20, "not a number"),
        (b"9" * 400, "too long"),
        (b"", "not a number"),
        (True, "not a text"),
    ],
)
def test_what_cannot_be_a_whole_number(value, reason):
    with pytest.raises(MalformedError, match=f"^{reason}$"):
        whole(-2, 10)(value)


def test_durations_are_seconds_from_now():
    assert duration(0.001)(b"1500") == 1.5
    assert duration(1.0)(2.5) == 2.5
    for past_or_point_in_time in (-1, 1_790_000_000, 10**400):
        with pytest.raises(MalformedError):
            duration(1.0)(past_or_point_in_time)


@pytest.mark.parametrize(
    ("value", "read"),
    [(b"true", True), (b"TRUE", True), (b"1", True), (True, True), (b"false", False), (0, False), (b"", False)],
)
def test_flags(value, read):
    assert flag(value) is read


def test_what_is_neither_true_nor_false():
    with pytest.raises(MalformedError, match="not true or false"):
        flag(b"maybe")


def test_levels_are_words():
    assert level({"bulk": -1})(b"Bulk") == -1
    with pytest.raises(MalformedError, match="not a known word"):
        level({"bulk": -1})(b"urgent")
