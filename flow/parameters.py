"""What a plug-in's constructor takes, checked before it is called: names, types and signs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from inspect import Parameter, signature
from math import isfinite
from typing import Any


class ParameterError(ValueError):
    """A parameter that the plug-in does not take. The message says what is allowed."""


def takes(factory: Callable[..., Any], name: str) -> bool:
    """Whether ``factory`` has a parameter of that name."""
    return name in signature(factory).parameters


def check_parameters(factory: Callable[..., Any], given: Mapping[str, Any]) -> None:
    """Raises ParameterError. A parameter whose default is a number takes numbers from 0, a time (``_s``) above 0."""
    known = signature(factory).parameters
    if any(each.kind is Parameter.VAR_KEYWORD for each in known.values()):
        return
    for name, value in given.items():
        if name not in known:
            raise ParameterError(f"no parameter {name!r}; allowed: {', '.join(known) or 'none'}")
        default = known[name].default
        if isinstance(default, int | float) and not isinstance(default, bool):
            _check_number(name, value, type(default))


def _check_number(name: str, value: Any, kind: type[int | float]) -> None:
    allowed = "a whole number" if kind is int else "a number"
    allowed += " above 0" if name.endswith("_s") else ", 0 or more"
    is_number = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
    if not is_number or not isfinite(value) or value < 0 or (value == 0 and name.endswith("_s")):
        raise ParameterError(f"parameter {name} is {value!r}, allowed: {allowed}")
