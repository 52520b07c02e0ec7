"""A copy of a collection of objects, kept true by a list and a watch: bytes in, objects out."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.engine.discovery.kubernetes_mirror import Mirror, WatchError
from router.engine.discovery.kubernetes_pods import Pod


def pod(name: str, version: int, **labels: str) -> dict[str, object]:
    return {"metadata": {"name": name, "resourceVersion": str(version), "labels": labels}}


def listing(version: int, *items: object) -> bytes:
    return json.dumps({"kind": "PodList", "metadata": {"resourceVersion": str(version)}, "items": items}).encode()


def line(kind: str, item: object) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


def mirror_of(*items: object) -> Mirror[Pod]:
    mirror = Mirror(Pod)
    mirror.listed(listing(10, *items))
    return mirror


def test_a_list_is_the_whole_collection() -> None:
    mirror = mirror_of(pod("a", 3), pod("b", 4))
    assert (sorted(mirror.objects), mirror.version) == (["a", "b"], "10")
    mirror.listed(listing(12, pod("b", 4)))
    assert (sorted(mirror.objects), mirror.version) == (["b"], "12")


def test_an_empty_collection_may_be_null() -> None:
    mirror = Mirror(Pod)
    assert not mirror.known
    mirror.listed(b'{"metadata": {"resourceVersion": "7"}, "items": null}')
    assert (mirror.objects, mirror.version, mirror.known) == ({}, "7", True)


def test_events_bring_change_and_take_objects() -> None:
    mirror = mirror_of(pod("a", 3))
    assert mirror.feed(line("ADDED", pod("b", 11)))
    assert mirror.feed(line("MODIFIED", pod("a", 12, tier="gpu")))
    assert mirror.objects["a"].metadata.labels == {"tier": "gpu"}
    assert mirror.feed(line("DELETED", pod("b", 13)))
    assert (sorted(mirror.objects), mirror.version) == (["a"], "13")


def test_an_object_that_was_never_seen_may_be_deleted() -> None:
    mirror = mirror_of()
    mirror.feed(line("DELETED", pod("a", 11)))
    assert mirror.objects == {}


def test_a_bookmark_only_moves_the_version() -> None:
    mirror = mirror_of(pod("a", 3))
    assert not mirror.feed(line("BOOKMARK", {"kind": "Pod", "metadata": {"resourceVersion": "99"}}))
    assert (sorted(mirror.objects), mirror.version) == (["a"], "99")


def test_lines_come_in_any_pieces_and_empty_ones_mean_nothing() -> None:
    mirror = mirror_of()
    stream = b"\n" + line("ADDED", pod("a", 11)) + b"\r\n" + line("ADDED", pod("ü", 12))
    for byte in stream:
        mirror.feed(bytes([byte]))
    assert (sorted(mirror.objects), mirror.version) == (["a", "ü"], "12")


def test_half_a_line_is_dropped_with_its_connection() -> None:
    mirror = mirror_of()
    mirror.feed(line("ADDED", pod("a", 11)) + line("ADDED", pod("b", 12))[:-1])
    mirror.cut()
    assert (sorted(mirror.objects), mirror.version) == (["a"], "11")
    mirror.feed(line("ADDED", pod("b", 12)))
    assert (sorted(mirror.objects), mirror.version) == (["a", "b"], "12")


def test_an_error_asks_for_a_new_list_and_forgets_nothing() -> None:
    mirror = mirror_of(pod("a", 3))
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version: 10 (99)"}
    with pytest.raises(WatchError, match="too old resource version") as caught:
        mirror.feed(line("ADDED", pod("b", 11)) + line("ERROR", gone))
    assert caught.value.code == 410
    assert (sorted(mirror.objects), mirror.version) == (["a", "b"], "")


@pytest.mark.parametrize(
    "stream", [b"upstream connect error\n", b"{}\n", b'{"type": "ADDED", "object": {"metadata": 5}}\n', b"\xff\n"]
)
def test_what_is_no_event_asks_for_a_new_list(stream: bytes) -> None:
    mirror = mirror_of(pod("a", 3))
    with pytest.raises(WatchError, match="not an event"):
        mirror.feed(stream)
    assert (sorted(mirror.objects), mirror.version) == (["a"], "")


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"items": []}', b'{"metadata": {}, "items": [5]}'])
def test_what_is_no_list_changes_nothing(body: bytes) -> None:
    mirror = mirror_of(pod("a", 3))
    with pytest.raises(WatchError, match="not a list of objects"):
        mirror.listed(body)
    assert sorted(mirror.objects) == ["a"]


@dataclass
class Truth:
    """An API server, plainly: all that ever happened, and how much of it can still be watched."""

    version: int = 1
    objects: dict[str, dict[str, object]] = field(default_factory=dict)
    log: list[tuple[int, bytes]] = field(default_factory=list)
    past: dict[int, dict[str, str]] = field(default_factory=lambda: {1: {}})
    """By version: the versions of the objects that were there."""
    floor: int = 0
    """Changes up to this one are compacted."""

    def put(self, name: str) -> None:
        kind = "MODIFIED" if name in self.objects else "ADDED"
        self.objects[name] = pod(name, self.version + 1)
        self._happened(kind, self.objects[name])

    def delete(self, name: str) -> None:
        if name in self.objects:
            self._happened("DELETED", self.objects.pop(name) | pod(name, self.version + 1))

    def bookmark(self) -> None:
        self.log.append((self.version, line("BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}})))

    def compact(self) -> None:
        self.floor = self.version

    def list(self) -> bytes:
        return listing(self.version, *self.objects.values())

    def since(self, version: int) -> bytes:
        """What a watch from ``version`` has sent by now."""
        return b"".join(sent for at, sent in self.log if at > version)

    def _happened(self, kind: str, item: dict[str, object]) -> None:
        self.version += 1
        self.log.append((self.version, line(kind, item)))
        self.past[self.version] = {name: _version(each) for name, each in self.objects.items()}


def _version(item: dict[str, object]) -> str:
    return str(item["metadata"]["resourceVersion"])  # type: ignore[index]


GONE = line("ERROR", {"kind": "Status", "code": 410, "message": "too old resource version"})


class Client:
    """Lists and watches as the mirror asks for it, gets the stream in pieces, and loses it now and then."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        self.mirror = Mirror(Pod)
        self._connected = False

    def read(self, size: int) -> None:
        """Up to ``size`` bytes of what there is to read; a list comes whole."""
        if not self.mirror.version:
            self.mirror.listed(self.truth.list())
        if not self._connected:
            self._connected, self._read, self._from = True, 0, int(self.mirror.version)
            self._refused = self._from < self.truth.floor
        stream = GONE if self._refused else self.truth.since(self._from)
        chunk = stream[self._read : self._read + size]
        self._read += len(chunk)
        try:
            self.mirror.feed(chunk)
        except WatchError:
            self.drop()

    def drop(self) -> None:
        self.mirror.cut()
        self._connected = False

    def restart(self) -> None:
        self.mirror = Mirror(Pod)
        self._connected = False

    def told(self) -> dict[str, str]:
        return {name: each.metadata.resource_version for name, each in self.mirror.objects.items()}


NAMES = st.sampled_from("abc")
STEPS = st.one_of(
    st.tuples(st.sampled_from(["put", "delete"]), NAMES),
    st.tuples(st.sampled_from(["bookmark", "compact", "drop", "restart"])),
    st.tuples(st.just("read"), st.integers(1, 200)),
)


@given(st.lists(STEPS, min_size=20, max_size=80))
def test_whatever_happens_on_the_way_it_is_what_the_server_had_and_in_the_end_what_it_has(
    steps: list[tuple[object, ...]],
) -> None:
    truth = Truth()
    client = Client(truth)
    for name, *arguments in steps:
        getattr(client if name in ("read", "drop", "restart") else truth, str(name))(*arguments)
        if client.mirror.version:
            assert client.told() == truth.past[int(client.mirror.version)]
    for _ in range(3):  # a list; a refused watch and a new list; the rest of the watch
        client.read(1 << 20)
    assert client.told() == truth.past[truth.version]
