"""Which replicas a server is, from what it and the user say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.core.types import Role
from router.engine.discovery.address import ReplicaAddress
from router.engine.identity import Cache, Identity, IdentityError, Models, Publisher, identify
from router.engine.kv_events.endpoints import EndpointError, EventSource, connectable

ADDRESS = ReplicaAddress("http://gpu1:8000", role=Role.PREFILL, labels={"zone": "a"})
MODELS = Models(("llama", "llama-8b"), ("sql",), 8192)
CACHES = {0: Cache(32, 4096)}
TWO_PUBLISHERS = {0: Publisher("tcp://*:5557", "tcp://*:6557"), 1: Publisher("tcp://*:5558", "tcp://*:6558")}
TWO_CACHES = {0: Cache(16, 100), 1: Cache(16, 200)}


def sources(identity: Identity) -> list[EventSource | None]:
    return [rank.events for rank in identity.ranks]


def test_a_plain_server_is_one_replica() -> None:
    (rank,) = identify(ADDRESS, MODELS, CACHES, {}).ranks
    spec = rank.spec
    assert (spec.name, spec.url, spec.rank, spec.role) == ("gpu1:8000", "http://gpu1:8000", None, Role.PREFILL)
    assert (spec.models, spec.adapters, spec.labels) == (("llama", "llama-8b"), ("sql",), {"zone": "a"})
    assert (spec.block_size_tokens, spec.capacity_blocks, spec.max_model_len_tokens) == (32, 4096, 8192)
    assert not spec.reports_events
    assert rank.events is None


def test_the_model_option_chooses_which_name_comes_first() -> None:
    identity = identify(replace(ADDRESS, model="llama-8b"), MODELS, CACHES, {})
    assert identity.ranks[0].spec.models == ("llama-8b", "llama")
    with pytest.raises(IdentityError, match="serves llama, llama-8b; its option `model` says qwen"):
        identify(replace(ADDRESS, model="qwen"), MODELS, CACHES, {})


def test_what_is_unknown_is_assumed_and_noted() -> None:
    identity = identify(ADDRESS, MODELS, {}, {})
    assert identity.ranks[0].spec.block_size_tokens == 16
    assert identity.ranks[0].spec.capacity_blocks == 0
    assert "block size unknown" in identity.notes[0]


class TestEvents:
    def test_as_the_server_lists_them(self) -> None:
        identity = identify(ADDRESS, MODELS, CACHES, {0: Publisher("tcp://*:5557", "tcp://*:6557")})
        assert sources(identity) == [EventSource("tcp://gpu1:5557", "tcp://gpu1:6557")]
        assert identity.ranks[0].spec.reports_events

    def test_off(self) -> None:
        identity = identify(replace(ADDRESS, events="off"), MODELS, CACHES, {0: Publisher("tcp://*:5557")})
        assert sources(identity) == [None]
        assert not identity.ranks[0].spec.reports_events

    def test_by_convention_when_on(self) -> None:
        assert sources(identify(replace(ADDRESS, events="on"), MODELS, CACHES, {})) == [EventSource("tcp://gpu1:5557")]

    def test_by_flag(self) -> None:
        address = replace(ADDRESS, events="tcp://other:1111", replay="tcp://*:2222")
        assert sources(identify(address, MODELS, CACHES, {0: Publisher("tcp://*:5557")})) == [
            EventSource("tcp://other:1111", "tcp://gpu1:2222")
        ]

    def test_at_an_endpoint_of_no_use_are_noted(self) -> None:
        identity = identify(ADDRESS, MODELS, CACHES, {0: Publisher("inproc://cache")})
        assert sources(identity) == [None]
        assert "inproc://cache" in identity.notes[0]


class TestDataParallel:
    def test_each_rank_is_a_replica(self) -> None:
        identity = identify(ADDRESS, MODELS, TWO_CACHES, TWO_PUBLISHERS)
        assert [(rank.spec.name, rank.spec.rank, rank.spec.capacity_blocks) for rank in identity.ranks] == [
            ("gpu1:8000#0", 0, 100),
            ("gpu1:8000#1", 1, 200),
        ]
        assert sources(identity) == [
            EventSource("tcp://gpu1:5557", "tcp://gpu1:6557"),
            EventSource("tcp://gpu1:5558", "tcp://gpu1:6558"),
        ]

    def test_the_rank_is_added_to_a_configured_port(self) -> None:
        configured = dict.fromkeys((0, 1), Publisher("tcp://*:5557", "tcp://*:6557"))
        expected = sources(identify(ADDRESS, MODELS, TWO_CACHES, TWO_PUBLISHERS))
        assert sources(identify(ADDRESS, MODELS, TWO_CACHES, configured)) == expected
        by_flag = replace(ADDRESS, events="tcp://*:5557", replay="tcp://*:6557")
        assert sources(identify(by_flag, MODELS, TWO_CACHES, {})) == expected

    def test_ranks_can_be_named(self) -> None:
        identity = identify(replace(ADDRESS, ranks=3), MODELS, CACHES, {})
        assert [rank.spec.rank for rank in identity.ranks] == [0, 1, 2]

    def test_left_to_vllm_there_is_one_replica_without_events(self) -> None:
        identity = identify(replace(ADDRESS, ranks=1), MODELS, TWO_CACHES, TWO_PUBLISHERS)
        assert [rank.spec.rank for rank in identity.ranks] == [None]
        assert sources(identity) == [None]

    def test_one_rank_of_a_deployment_with_another_balancer_is_a_plain_replica(self) -> None:
        identity = identify(ADDRESS, MODELS, {3: Cache(16, 300)}, {3: Publisher("tcp://*:5560")})
        (rank,) = identity.ranks
        assert (rank.spec.name, rank.spec.rank, rank.spec.capacity_blocks) == ("gpu1:8000", None, 300)
        assert rank.events == EventSource("tcp://gpu1:5560")


class TestEndpoints:
    @pytest.mark.parametrize(
        ("endpoint", "host", "expected"),
        [
            ("tcp://*:5557", "gpu1", "tcp://gpu1:5557"),
            ("tcp://0.0.0.0:5557", "10.0.0.1", "tcp://10.0.0.1:5557"),
            ("tcp://[::]:5557", "fd00::1", "tcp://[fd00::1]:5557"),
            ("tcp://10.1.1.1:5557", "gpu1", "tcp://10.1.1.1:5557"),
            ("ipc:///run/vllm.sock", "gpu1", "ipc:///run/vllm.sock"),
        ],
    )
    def test_wildcards_become_the_host(self, endpoint: str, host: str, expected: str) -> None:
        assert connectable(endpoint, host) == expected

    @pytest.mark.parametrize(
        "endpoint", ["", "tcp://", "tcp://host", "tcp://:5557", "tcp://h:0", "tcp://h:65536", "tcp://h:x", "udp://h:1"]
    )
    def test_others_are_refused(self, endpoint: str) -> None:
        with pytest.raises(EndpointError, match="use tcp://HOST:PORT"):
            connectable(endpoint, "host")

    def test_a_port_that_the_rank_pushes_out_of_range_is_refused(self) -> None:
        with pytest.raises(EndpointError, match="of rank 1"):
            connectable("tcp://*:65535", "host", 1)
