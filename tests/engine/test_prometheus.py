"""Finding the wanted lines of a Prometheus text body."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.engine.prometheus import MalformedLineError, Sample, label, labels_of, samples

BODY = b"""\
# HELP vllm:waiting Requests that wait.
# TYPE vllm:waiting gauge
vllm:waiting{engine="0",model_name="m"} 3.0
vllm:waiting{engine="1",model_name="m"} 4.0 1700000000000
# TYPE vllm:waiting_by_reason gauge
vllm:waiting_by_reason{engine="0",reason="capacity"} 9.0
plain_total 1e3
"""


def test_samples_of_one_metric() -> None:
    assert [sample.value for sample in samples(BODY, b"vllm:waiting")] == [3.0, 4.0]


def test_a_longer_name_is_another_metric() -> None:
    assert [sample.value for sample in samples(BODY, b"vllm:waiting_by_reason")] == [9.0]
    assert list(samples(BODY, b"vllm:wait")) == []


def test_metrics_without_labels_and_at_the_ends_of_the_body() -> None:
    assert list(samples(BODY, b"plain_total")) == [Sample(b"", 1000.0)]
    assert list(samples(b"first 1\nlast 2", b"first")) == [Sample(b"", 1.0)]
    assert list(samples(b"first 1\nlast 2", b"last")) == [Sample(b"", 2.0)]


def test_names_in_help_lines_do_not_count() -> None:
    assert list(samples(b"# HELP other like absent{a} 1\n", b"absent")) == []


@pytest.mark.parametrize("line", [b'm{a="b" 1', b"m{} ", b"m ", b"m{} one", b"m one"])
def test_malformed_lines(line: bytes) -> None:
    with pytest.raises(MalformedLineError):
        list(samples(line, b"m"))


def test_labels() -> None:
    labels = b'engine="3",model_engine="7",path="a\\\\b\\"c\\nd",brace="}"'
    assert label(labels, b"engine") == "3"
    assert label(b'model_engine="7"', b"engine") == ""
    assert labels_of(labels) == {"engine": "3", "model_engine": "7", "path": 'a\\b"c\nd', "brace": "}"}


@given(st.binary(max_size=200))
def test_arbitrary_bytes_are_read_or_refused(noise: bytes) -> None:
    try:
        for sample in samples(b"m" + noise, b"m"):
            labels_of(sample.labels)
            label(sample.labels, b"engine")
    except MalformedLineError:
        pass
