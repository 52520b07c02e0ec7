"""Workload parameters from the command line: ``key=value`` for a field of the workload's dataclass.

A value is read as what the field holds by default: a number, several (``0.1,0.6,0.1,0.2``), or a distribution: ``8``,
``4..16`` for a range, ``9~1.7`` for a lognormal of median 9 and sigma 1.7, ``9~1.7[0..610]`` if it is cut. Fields of
fields are named with a dot: ``tool.frequency=0.5``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import fields, is_dataclass, replace
from typing import Any

from sim.workloads.draw import Distribution, Lognormal, Range
from sim.workloads.registry import default_workload

_LOGNORMAL = re.compile(r"(?P<median>[^~\[]+)~(?P<sigma>[^\[]+)(\[(?P<low>[^.\]]+(\.\d+)?)\.\.(?P<high>[^\]]+)\])?$")


def read_parameters(workload: str, given: Iterable[str]) -> tuple[tuple[str, object], ...]:
    """Name and value of each field of ``workload`` that ``given`` changes. Raises ValueError, saying what there is."""
    made: Any = default_workload(workload)
    changed: dict[str, object] = {}
    for text in given:
        path, sign, value = text.partition("=")
        if not sign or not path or not value:
            raise ValueError(f"{text!r} is not of the form key=value")
        made = _with(made, path.split("."), value, text, f"workload {workload}")
        name = path.split(".")[0]
        changed[name] = getattr(made, name)
    return tuple(changed.items())


def _with(made: Any, path: list[str], value: str, text: str, owner: str) -> Any:
    """``made`` with the field at ``path`` read from ``value``."""
    known = [each.name for each in fields(made)]
    name, *rest = path
    if name not in known:
        raise ValueError(f"{owner} has no parameter {name!r}; it has {', '.join(known)}")
    current = getattr(made, name)
    if rest and not _has_fields(current):
        raise ValueError(f"{text!r}: {name} has no parameters of its own")
    if not rest and _has_fields(current):
        inner = ", ".join(f"{name}.{each.name}" for each in fields(current))
        raise ValueError(f"{text!r}: give one of {inner}")
    try:
        read = _with(current, rest, value, text, name) if rest else _read(value, current)
        return replace(made, **{name: read})
    except (TypeError, ValueError) as error:
        raise error if rest else ValueError(f"{text!r}: {error}") from error


def _has_fields(value: object) -> bool:
    return is_dataclass(value) and not isinstance(value, Distribution)


def _read(text: str, default: object) -> object:
    match default:
        case int():
            return _whole(text)
        case float():
            return _number(text)
        case tuple():
            return tuple(_number(each) for each in text.split(","))
        case Range() | Lognormal():
            return read_distribution(text)
    raise TypeError(f"it cannot be set to {text!r}")


def read_distribution(text: str) -> Distribution:
    if found := _LOGNORMAL.match(text):
        median, sigma = _number(found["median"]), _number(found["sigma"])
        if found["low"] is None:
            return Lognormal(median, sigma)
        return Lognormal(median, sigma, _number(found["low"]), _number(found["high"]))
    low, dots, high = text.partition("..")
    return Range(_number(low), _number(high if dots else low))


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number; give one, LOW..HIGH, or MEDIAN~SIGMA") from None
