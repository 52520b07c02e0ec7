"""Finds a part by name: those that come with Weft, entry points of installed packages, and ``module:Class``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import Any


class PluginError(ValueError):
    """No part has that name, or what has it cannot be used."""


def find(kind: str, name: str, shipped: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    """What makes the part: a shipped one, else an entry point of the group ``weft.<kind>s``, else an import.

    Raises PluginError that says what is allowed; ``kind`` is the word for it, such as ``order``.
    """
    if name in shipped:
        return shipped[name]
    points = [point for point in entry_points(group=f"weft.{kind}s") if point.name == name]
    module, colon, attribute = name.partition(":")
    if not points and not colon:
        allowed = ", ".join(sorted(shipped))
        raise PluginError(f"no {kind} {name!r}: use one of {allowed}, an entry point or module:Class")
    try:
        found = points[0].load() if points else getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever a stranger's module raises
        raise PluginError(f"cannot load {kind} {name!r}: {error}") from error
    if not callable(found):
        raise PluginError(f"cannot load {kind} {name!r}: it cannot be called")
    loaded: Callable[..., Any] = found
    return loaded
