"""The few lines of a Prometheus text body that we want, found by byte search: the rest is never parsed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_LABEL = re.compile(rb'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\(.)")
_ESCAPED = {b"n": b"\n"}


class Sample(NamedTuple):
    labels: bytes
    """What stands between the braces, undecoded; ``label`` and ``labels_of`` read it."""
    value: float


class MalformedLineError(ValueError):
    """A line that is not ``name{labels} value``."""


def samples(body: bytes, name: bytes) -> Iterator[Sample]:
    """The samples of one metric. Its lines stand together in the text, so the search ends after them.

    Raises MalformedLineError.
    """
    position = _first_line(body, name)
    while position >= 0 and body.startswith(name, position):
        end = body.find(b"\n", position)
        end = len(body) if end < 0 else end
        yield _sample(body[position:end], len(name))
        position = end + 1


def label(labels: bytes, name: bytes) -> str:
    """The value of one label; empty when absent. For labels whose values need no escapes, such as numbers."""
    start = labels.find(name + b'="')
    while start > 0 and labels[start - 1 : start] != b",":
        start = labels.find(name + b'="', start + 1)
    if start < 0:
        return ""
    start += len(name) + 2
    end = labels.find(b'"', start)
    return labels[start:end].decode("utf-8", "replace") if end >= 0 else ""


def labels_of(labels: bytes) -> dict[str, str]:
    """All labels, with escapes undone."""
    return {
        name.decode(): _ESCAPE.sub(lambda m: _ESCAPED.get(m[1], m[1]), value).decode("utf-8", "replace")
        for name, value in _LABEL.findall(labels)
    }


def _first_line(body: bytes, name: bytes) -> int:
    """Where the metric's first sample begins; -1 when there is none."""
    position = body.find(name)
    while position >= 0:
        starts_line = position == 0 or body[position - 1 : position] == b"\n"
        after = position + len(name)
        if starts_line and body[after : after + 1] in (b"{", b" "):
            return position
        position = body.find(name, after)
    return -1


def _sample(line: bytes, name_length: int) -> Sample:
    labels = b""
    rest = line[name_length:]
    if rest.startswith(b"{"):
        close = rest.rfind(b"}")
        labels, rest = rest[1:close], rest[close + 1 :]
        if close < 0:
            raise MalformedLineError(f"no closing brace in {line[:200]!r}")
    try:
        return Sample(labels, float(rest.split(None, 1)[0]))
    except (ValueError, IndexError) as error:
        raise MalformedLineError(f"no number in {line[:200]!r}") from error
