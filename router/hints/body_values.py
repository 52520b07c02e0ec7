"""Finds in a parsed body the few fields that hints are read from. Costs next to nothing when it has none of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import Any

import msgspec

from router.engine.api import Body
from router.hints.said import BODY
from router.hints.tables import KEYS

MAX_OBJECT_BYTES = 64 * 1024
"""Of one field of the body: what is longer is not made for hints."""

Path = tuple[str, ...]


def _paths(keys: Iterable[str]) -> dict[str, list[tuple[str, Path]]]:
    """By field of the body: the keys in it, each with the names that lead there."""
    paths: dict[str, list[tuple[str, Path]]] = defaultdict(list)
    for key in keys:
        if key.startswith(BODY):
            field, *rest = key.removeprefix(BODY).split(".")
            paths[field].append((key, tuple(rest)))
    return paths


_PATHS = _paths(KEYS)
_FIELDS = tuple(_PATHS)
_READ = attrgetter(*_FIELDS)


def body_values(body: Body, warnings: Counter[str]) -> Iterator[tuple[str, object]]:
    """(key, value) of all that the body says."""
    found = _READ(body)
    if not any(found):
        return
    for field, value in zip(_FIELDS, found, strict=True):
        if value:
            yield from _values_in(field, value, warnings)


def _values_in(field: str, value: Any, warnings: Counter[str]) -> Iterator[tuple[str, object]]:
    if isinstance(value, msgspec.Raw):
        if len(bytes(value)) > MAX_OBJECT_BYTES:
            warnings[f"{BODY}{field}: too long"] += 1
            return
        value = _decode(value)
    for key, path in _PATHS[field]:
        found = value
        for name in path:
            found = _member(found, name)
        if found is not None and not isinstance(found, dict):
            yield key, found


def _member(value: Any, name: str) -> Any:
    """A member of an object, or of one that is written as text where the API allows nothing else.

    That is JSON; in the ``metadata.user_id`` of Claude Code it once was ``user_..._account_..._session_...``.
    """
    if isinstance(value, str) and len(value) <= MAX_OBJECT_BYTES:
        if not value.startswith("{"):
            return _word_after(value, name.removesuffix("_id")) if value.startswith("user_") else None
        value = _decode(value)
    return value.get(name) if isinstance(value, dict) else None


def _word_after(value: str, name: str) -> str | None:
    _, found, rest = value.rpartition(f"_{name}_")
    return rest if found else None


def _decode(text: msgspec.Raw | str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
        return None
