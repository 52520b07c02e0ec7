"""Replicas listed in a YAML file that is read again when it changes.

- http://10.0.0.1:8000                     # as on the command line
- url: http://10.0.0.2:8000                # or as a mapping of the same options
  events: tcp://*:5557
  labels: {zone: a}
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import yaml

from router.engine.discovery.address import OPTIONS, AddressError, ReplicaAddress, make_address, parse_address
from router.engine.discovery.source import Addresses, distinct
from router.engine.trouble import Troubles

MAX_FILE_BYTES = 4 << 20


class ReplicasFileError(Exception):
    """The file cannot be used. The message names file, line, key and what is allowed."""


class FileDiscovery:
    """Looks at the file every ``interval_s``. A broken file keeps the set that was read before."""

    def __init__(self, path: Path, troubles: Troubles, interval_s: float = 1.0) -> None:
        self._path = path
        self._troubles = troubles
        self._interval_s = interval_s

    async def watch(self) -> AsyncIterator[Addresses]:
        told: Addresses | None = None
        seen: object = "nothing yet"
        while True:
            stamp = _stamp(self._path)
            if stamp != seen:
                seen = stamp
                addresses = self._try_read()
                if addresses is not None and addresses != told:
                    told = addresses
                    yield addresses
            await asyncio.sleep(self._interval_s)

    def _try_read(self) -> Addresses | None:
        try:
            return read_replicas_file(self._path)
        except ReplicasFileError as error:
            self._troubles.note("replicas_file", str(self._path), str(error))
            return None


def _stamp(path: Path) -> object:
    """Changes when the file does, also when it is replaced; None when it is not there."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def read_replicas_file(path: Path) -> Addresses:
    """Raises ReplicasFileError."""
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        text = content.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ReplicasFileError(f"{path}: cannot be read: {error}") from error
    if len(content) > MAX_FILE_BYTES:
        raise ReplicasFileError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
    try:
        return distinct(_entries(path, text))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ReplicasFileError(f"{path}, line {line}: not valid YAML: {error.problem}") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise ReplicasFileError(f"{path}: not valid YAML: {error}") from error
    except AddressError as error:
        raise ReplicasFileError(f"{path}: {error}") from error


def _entries(path: Path, text: str) -> list[ReplicaAddress]:
    loader = yaml.SafeLoader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return []
        if not isinstance(root, yaml.SequenceNode):
            raise ReplicasFileError(f"{path}: expected a list of replicas, each a URL or a mapping with `url`")
        addresses = []
        for node in root.value:
            try:
                addresses.append(_entry(loader.construct_object(node, deep=True)))
            except AddressError as error:
                raise ReplicasFileError(f"{path}, line {node.start_mark.line + 1}: {error}") from error
        return addresses
    finally:
        loader.dispose()


def _entry(value: object) -> ReplicaAddress:
    if isinstance(value, str):
        return parse_address(value)
    if not isinstance(value, dict):
        raise AddressError("expected a URL or a mapping with `url`")
    url = value.get("url")
    if not isinstance(url, str):
        raise AddressError("the key `url` is missing or not text")
    options: dict[str, str] = {}
    for key, each in value.items():
        if key == "labels":
            options.update(_labels(each))
        elif key not in OPTIONS and key != "url":
            allowed = ", ".join(["url", *OPTIONS[:-1], "labels"])
            raise AddressError(f"unknown key {key!r}; allowed: {allowed}")
        elif key != "url":
            options[key] = _text(key, each)
    return make_address(url, options)


def _labels(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise AddressError("labels: expected a mapping of names to values")
    return {f"label.{name}": _text(f"labels.{name}", each) for name, each in value.items()}


def _text(key: str, value: object) -> str:
    """YAML reads ``on`` and ``off`` as booleans, and numbers as numbers."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, str | int | float):
        return str(value)
    raise AddressError(f"{key}: expected text, got {type(value).__name__}")
