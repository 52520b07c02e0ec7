"""vLLM's KV event messages, as each version sends them."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.index.batch import EVENT, KvBatch
from router.core.index.hashing import chain_seed, hash_blocks, key_hash
from router.core.index.prefix_index import Applied, PrefixIndex
from router.core.types import Tier
from router.engine.kv_events import wire
from router.engine.kv_events.wire import EventDecoder

RECORDED = Path(__file__).parents[3] / "shared" / "vllm" / "kv_events.jsonl"
MODEL = "tiny"
SIZE = 4
TOKENS = list(range(100, 112))
HASHES = [2**64 - 5, 7, 2**63]

FIELDS = [
    "block_hashes",
    "parent_block_hash",
    "token_ids",
    "block_size",
    "lora_id",
    "medium",
    "lora_name",
    "extra_keys",
    "group_idx",
    "kv_cache_spec_kind",
    "kv_cache_spec_sliding_window",
    "locality",
    "ownership",
    "session_id",
    "lookahead_token_ids",
]
STORED: dict[str, Any] = {
    "block_hashes": HASHES,
    "parent_block_hash": None,
    "token_ids": TOKENS,
    "block_size": SIZE,
    "lora_id": None,
    "medium": "GPU",
    "lora_name": None,
    "extra_keys": [None, None, None],
    "group_idx": 0,
    "kv_cache_spec_kind": "full_attention",
    "kv_cache_spec_sliding_window": None,
    "locality": "LOCAL",
    "ownership": "tier-1",
    "session_id": "abc",
    "lookahead_token_ids": [1, 2],
}
REMOVED: dict[str, Any] = {"block_hashes": [7], "medium": "GPU", "group_idx": 0, "locality": "LOCAL", "ownership": "x"}

ARRAY_VERSIONS = {"0.9.2": 5, "0.10.2": 6, "0.14.1": 7, "0.18.1": 8, "0.20.0": 9, "0.22.1": 11}
MAP_VERSIONS = {"0.24.0": 11, "0.26.0": 12, "0.29.0": 13, "0.30.0": 14, "0.33.0": 15}


def message(*events: Any) -> bytes:
    return msgspec.msgpack.encode([1.5, list(events), 0])


def stored(**changes: Any) -> dict[str, Any]:
    event = STORED | changes
    if "block_hashes" in changes and "extra_keys" not in changes:
        event["extra_keys"] = [None] * len(changes["block_hashes"])
    return {"type": "BlockStored"} | event


def removed(**changes: Any) -> dict[str, Any]:
    return {"type": "BlockRemoved"} | REMOVED | changes


CLEARED = {"type": "AllBlocksCleared"}


def in_form(version: str, tag: str, event: dict[str, Any], fields: list[str]) -> Any:
    if version in ARRAY_VERSIONS:
        return [tag, *(event[name] for name in fields)]
    return {"type": tag} | {name: event[name] for name in fields}


def decode(*payloads: bytes) -> KvBatch:
    return EventDecoder(MODEL).decode(payloads)


def matched(batch: KvBatch, tokens: list[int] = TOKENS, media: Any = (), **identity: str) -> int:
    """Blocks of the prompt that a replica holds after these events."""
    index = PrefixIndex()
    index.apply(0, batch)
    hashes = hash_blocks(np.array(tokens, np.uint32), SIZE, chain_seed(MODEL, **identity), media)
    return int(index.match(hashes).blocks[0])


class TestEveryVersion:
    @pytest.mark.parametrize("version", [*ARRAY_VERSIONS, *MAP_VERSIONS])
    def test_stored_removed_cleared(self, version: str) -> None:
        fields = FIELDS[: (ARRAY_VERSIONS | MAP_VERSIONS)[version]]
        gone = [name for name in REMOVED if name in fields]
        first = message(in_form(version, "BlockStored", STORED, fields))
        assert matched(decode(first)) == 3
        second = message(in_form(version, "BlockRemoved", REMOVED, gone))
        assert matched(decode(first, second)) == 1
        third = message(in_form(version, "AllBlocksCleared", {}, []))
        batch = decode(first, second, third)
        assert matched(batch) == 0
        assert len(batch) == 3
        assert not batch.ignored

    @pytest.mark.parametrize("version", [*ARRAY_VERSIONS, *MAP_VERSIONS])
    def test_hashes_as_bytes(self, version: str) -> None:
        fields = FIELDS[: (ARRAY_VERSIONS | MAP_VERSIONS)[version]]
        raw = [b"\xff" * 24 + value.to_bytes(8, "big") for value in (1, 2**63 + 1, 2**64 - 1)]
        root = STORED | {"block_hashes": raw[:2], "token_ids": TOKENS[:8], "extra_keys": None}
        child = STORED | {"block_hashes": raw[2:], "token_ids": TOKENS[8:], "extra_keys": None}
        child["parent_block_hash"] = raw[1]
        batch = decode(message(*(in_form(version, "BlockStored", event, fields) for event in (root, child))))
        assert batch.engine_hashes.tolist() == [1, 2**63 + 1, 2**64 - 1]
        assert matched(batch) == 3

    def test_a_replica_that_was_upgraded_keeps_being_understood(self) -> None:
        decoder = EventDecoder(MODEL)
        for _ in range(2):
            for event in (["BlockStored", HASHES, None, TOKENS, SIZE, None], stored()):
                assert matched(decoder.decode([message(event)])) == 3

    def test_forms_may_be_mixed_in_one_call(self) -> None:
        array = ["BlockStored", HASHES[:1], None, TOKENS[:4], SIZE, None]
        rest = stored(block_hashes=HASHES[1:], parent_block_hash=HASHES[0], token_ids=TOKENS[4:])
        assert matched(decode(message(array), message(rest))) == 3


class TestValues:
    @given(st.lists(st.integers(-(2**63), 2**64 - 1), max_size=20))
    def test_integer_hashes_of_any_sign_and_size(self, hashes: list[int]) -> None:
        batch = decode(message(removed(block_hashes=hashes)))
        assert batch.engine_hashes.tolist() == [value % 2**64 for value in hashes]

    @given(st.lists(st.binary(max_size=300), max_size=20))
    def test_byte_hashes_of_any_length(self, hashes: list[bytes]) -> None:
        batch = decode(message(removed(block_hashes=hashes)))
        assert batch.engine_hashes.tolist() == [int.from_bytes(value[-8:], "big") for value in hashes]

    @given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=70000 // 1000))
    def test_token_ids(self, tokens: list[int]) -> None:
        batch = decode(message(stored(block_hashes=[1], token_ids=tokens, block_size=len(tokens))))
        assert batch.token_ids.tolist() == tokens

    def test_arrays_longer_than_65535(self) -> None:
        tokens = list(range(70000))
        batch = decode(message(stored(block_hashes=tokens, token_ids=tokens, block_size=1, extra_keys=None)))
        assert batch.token_ids.tolist() == batch.engine_hashes.tolist() == tokens

    @pytest.mark.parametrize(
        ("medium", "tier"),
        [("GPU", Tier.GPU), (None, Tier.GPU), ("cpu", Tier.CPU), ("STORAGE", Tier.DISK), ("Disk", Tier.DISK)],
    )
    def test_media_are_tiers(self, medium: str | None, tier: Tier) -> None:
        batch = decode(message(stored(medium=medium), removed(medium=medium)))
        assert batch.events["tier"].tolist() == [tier, tier]

    def test_an_unknown_medium_is_counted(self) -> None:
        batch = decode(message(stored(medium="TAPE"), removed(medium="TAPE"), CLEARED))
        assert batch.ignored == {wire.UNKNOWN_MEDIUM: 2}
        assert len(batch) == 1

    def test_an_offloaded_block_comes_without_tokens(self) -> None:
        placeholder = stored(medium="CPU", token_ids=[], block_size=0, extra_keys=None, kv_cache_spec_kind=None)
        batch = decode(message(stored()), message(placeholder, *[removed(block_hashes=[h]) for h in HASHES]))
        index = PrefixIndex()
        index.apply(0, batch)
        match = index.match(hash_blocks(np.array(TOKENS, np.uint32), SIZE, chain_seed(MODEL)))
        assert (match.gpu_blocks[0], match.cpu_blocks[0]) == (0, 3)

    def test_the_row_layout_is_the_events(self) -> None:
        assert wire._ROW.size == EVENT.itemsize
        batch = decode(message(stored(parent_block_hash=-2, medium="CPU")))
        row = batch.events[0]
        assert (int(row["parent"]), bool(row["has_parent"]), int(row["tier"])) == (2**64 - 2, True, 1)
        assert (int(row["blocks"]), int(row["block_size"]), int(row["seed"])) == (3, SIZE, chain_seed(MODEL))


class TestIdentity:
    def test_an_adapter_has_its_own_chain(self) -> None:
        batch = decode(message(stored(lora_id=3, lora_name="sql", extra_keys=[["sql"]] * 3)))
        assert matched(batch, lora="sql") == 3
        assert matched(batch) == 0

    def test_an_adapter_known_by_number_alone_stays_out_of_the_base_model(self) -> None:
        batch = decode(message(["BlockStored", HASHES, None, TOKENS, SIZE, 3]))
        assert matched(batch) == 0
        assert matched(batch, lora="lora_id:3") == 3

    @pytest.mark.parametrize("salt", ["tenant", ["cache_salt", "tenant"]])
    def test_a_cache_salt_has_its_own_chain_and_children_continue_it(self, salt: Any) -> None:
        root = stored(block_hashes=[1, 2], token_ids=TOKENS[:8], extra_keys=[[salt], None])
        child = stored(block_hashes=[3], token_ids=TOKENS[8:], parent_block_hash=2)
        batch = decode(message(root, child))
        assert matched(batch, cache_salt="tenant") == 3
        assert matched(batch) == 0

    def test_an_adapter_and_a_salt_of_the_same_name(self) -> None:
        keys = [["x", "x"], ["x"], ["x"]]
        assert matched(decode(message(stored(lora_name="x", extra_keys=keys))), lora="x", cache_salt="x") == 3
        named = [[["lora", "x", "/path"], ["cache_salt", "x"]], [["lora", "x", "/path"]], [["lora", "x", "/path"]]]
        assert matched(decode(message(stored(lora_name="x", extra_keys=named))), lora="x", cache_salt="x") == 3

    @pytest.mark.parametrize("tag", [[], ["mm"]])
    def test_media_count_in_the_block_where_they_begin(self, tag: list[str]) -> None:
        keys = [None, [[*tag, "cat", 1], [*tag, "dog", 3]], [[*tag, "dog", -1]]]
        media = ((5, key_hash("cat")), (7, key_hash("dog")))
        batch = decode(message(CLEARED, stored(extra_keys=keys)))
        assert matched(batch, media=media) == 3
        assert matched(batch) == 1

    def test_prompt_embeddings_make_a_block_different(self) -> None:
        batch = decode(message(stored(extra_keys=[None, [b"digest"], None])))
        assert matched(batch) == 1
        assert matched(batch, media=((4, key_hash(b"digest")),)) == 3

    def test_keys_of_ignored_events_do_not_move_to_others(self) -> None:
        sparse = stored(token_ids=TOKENS[:4], extra_keys=[[["mm", "dog", 0]], None, None])
        batch = decode(message(sparse, stored(extra_keys=[[["mm", "cat", 0]], None, None])))
        assert matched(batch, media=((0, key_hash("cat")),)) == 3

    def test_keys_must_be_one_list_for_each_block(self) -> None:
        batch = decode(message(stored(extra_keys=[[["mm", "cat", 0]]])))
        assert batch.ignored == {wire.POISONED_MESSAGE: 1}


class TestGroups:
    @pytest.mark.parametrize("kind", ["full_attention", "mla_attention", "sink_full_attention", None])
    def test_full_attention_enters(self, kind: str | None) -> None:
        assert matched(decode(message(stored(kv_cache_spec_kind=kind)))) == 3

    @pytest.mark.parametrize("kind", ["sliding_window", "mamba", "chunked_local_attention", "of the future"])
    def test_other_groups_are_counted_and_left_out(self, kind: str) -> None:
        batch = decode(message(stored(kv_cache_spec_kind=kind, group_idx=1)))
        assert batch.ignored == {wire.OTHER_GROUP: 1}
        assert len(batch) == 0

    @pytest.mark.parametrize("full", [0, 1])
    def test_a_removal_from_another_group_does_not_touch_full_attention(self, full: int) -> None:
        both = (
            stored(group_idx=full),
            stored(group_idx=1 - full, kv_cache_spec_kind="sliding_window"),
        )
        batch = decode(message(*both), message(removed(block_hashes=HASHES, group_idx=1 - full)))
        assert matched(batch) == 3
        assert batch.ignored == {wire.OTHER_GROUP: 2}
        assert matched(decode(message(*both), message(removed(block_hashes=HASHES, group_idx=full)))) == 0

    def test_without_kinds_only_the_first_group_enters(self) -> None:
        first, second = stored(kv_cache_spec_kind=None), stored(kv_cache_spec_kind=None, group_idx=1)
        gone = removed(block_hashes=HASHES, group_idx=1)
        batch = decode(message(first, second, gone))
        assert matched(batch) == 3
        assert batch.ignored == {wire.OTHER_GROUP: 2}

    def test_an_offload_of_a_full_attention_group_other_than_the_first(self) -> None:
        placeholder = stored(group_idx=1, medium="CPU", token_ids=[], block_size=0, kv_cache_spec_kind=None)
        batch = decode(message(stored(group_idx=1), placeholder))
        assert len(batch) == 2

    def test_events_with_gaps_are_counted_and_left_out(self) -> None:
        batch = decode(message(stored(token_ids=TOKENS[:-1]), stored(block_hashes=HASHES[:2]), stored()))
        assert batch.ignored == {wire.SPARSE_EVENT: 2}
        assert matched(batch) == 3


class TestBadInput:
    def test_unknown_event_types_and_fields_are_ignored(self) -> None:
        events = ({"type": "BlockMoved", "to": [1]}, stored() | {"new_field": {"a": 1}})
        batch = decode(message(*events))
        assert batch.ignored == {wire.UNKNOWN_EVENT: 1}
        assert matched(batch) == 3
        array = ["BlockStored", HASHES, None, TOKENS, SIZE, *[None] * 20]
        batch = decode(message(["BlockMoved", 1, 2], array))
        assert batch.ignored == {wire.UNKNOWN_EVENT: 1}
        assert matched(batch) == 3

    @pytest.mark.parametrize(
        "poison",
        [
            b"",
            b"\xc1",
            b"\x93\x01",
            msgspec.msgpack.encode("hello"),
            msgspec.msgpack.encode({"events": []}),
            msgspec.msgpack.encode([1.5]),
            message(7),
            message([]),
            message({}),
            message({"type": 3}),
            message(["BlockStored"]),
            message(stored(block_hashes="abc")),
            message(stored(block_hashes=["abc"])),
            message(stored(block_hashes=[1.5, 2, 3])),
            message(stored(block_hashes=[None, 2, 3])),
            message(stored(parent_block_hash=[1])),
            message(stored(token_ids=[[1]] * 12)),
            message(stored(token_ids=[-1] * 12)),
            message(stored(token_ids=[2**32] * 12)),
            message(stored(token_ids={"a": 1})),
            message(stored(block_size=-4)),
            message(stored(block_size=2**40)),
            message(stored(medium=3)),
            message(stored(extra_keys=[1, 2, 3])),
            message(removed(block_hashes=None)),
            message(removed(group_idx="first")),
            message(stored()) + b"\x00",
            message(stored(medium=b"\xff\xfe")),
            message(stored(extra_keys=["deep"])).replace(b"\xa4deep", b"\x91" * 100_000 + b"\xc0"),
            message(stored(medium="deep")).replace(b"\xa4deep", b"\xa1\xff"),
        ],
    )
    def test_a_poisoned_message_is_one_count_and_the_others_still_count(self, poison: bytes) -> None:
        first = message(stored(block_hashes=HASHES[:1], token_ids=TOKENS[:4]))
        last = message(stored(block_hashes=HASHES[1:], token_ids=TOKENS[4:], parent_block_hash=HASHES[0]))
        batch = decode(first, poison, last)
        assert batch.ignored == {wire.POISONED_MESSAGE: 1}
        assert matched(batch) == 3

    def test_nothing_of_a_poisoned_message_enters(self) -> None:
        batch = decode(message(stored(), stored(block_size="four")))
        assert batch.ignored == {wire.POISONED_MESSAGE: 1}
        assert len(batch) == 0

    @settings(max_examples=300)
    @given(st.lists(st.binary(max_size=60), max_size=4))
    def test_random_bytes_never_raise(self, payloads: list[bytes]) -> None:
        batch = decode(*payloads)
        assert batch.ignored.total() >= sum(not _is_message(payload) for payload in payloads)

    @settings(max_examples=500)
    @given(st.randoms(use_true_random=False))
    def test_damaged_messages_never_raise_and_never_break_the_index(self, rng: random.Random) -> None:
        whole = message(stored(), removed(), stored(block_hashes=[b"x" * 32] * 3, extra_keys=[["a", ["b", 1]]] * 3))
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(damaged))
            if rng.random() < 0.3:
                del damaged[at : at + rng.randint(1, 9)]
            else:
                damaged[at] = rng.randrange(256)
        batch = decode(whole, bytes(damaged))
        assert isinstance(PrefixIndex().apply(0, batch), Applied)

    def test_no_messages_are_no_events(self) -> None:
        assert len(decode()) == len(decode(message())) == 0


def _is_message(payload: bytes) -> bool:
    try:
        decoded = msgspec.msgpack.decode(payload)
    except (msgspec.DecodeError, ValueError, TypeError):
        return False
    return isinstance(decoded, list) and len(decoded) >= 2


@pytest.mark.skipif(not RECORDED.exists(), reason="no recorded vLLM events on this machine")
def test_recorded_events_of_a_real_vllm() -> None:
    captures = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    ignored: Counter[str] = Counter()
    for capture in captures:
        batch = decode(bytes.fromhex(capture["frames_hex"][2]))
        events = capture["decoded"][1]
        assert len(batch) == len(events)
        for row, event in zip(batch.events, events, strict=True):
            first, blocks = int(row["first_block"]), int(row["blocks"])
            hashes = [_engine_hash(value) for value in event.get("block_hashes", [])]
            assert batch.engine_hashes[first : first + blocks].tolist() == hashes
            if "token_ids" in event:
                first = int(row["first_token"])
                assert batch.token_ids[first : first + len(event["token_ids"])].tolist() == event["token_ids"]
        ignored += batch.ignored
    assert not ignored
    replica = [capture for capture in captures if capture["endpoint"] == captures[0]["endpoint"]][:9]
    index = PrefixIndex()
    applied = [index.apply(0, decode(bytes.fromhex(capture["frames_hex"][2]))) for capture in replica]
    assert sum(each.unknown_parents + each.unknown_removed for each in applied) == 0
    assert applied[-1].clears == 1
    assert index.held_blocks(0) == 3


def _engine_hash(value: Any) -> int:
    return int.from_bytes(bytes.fromhex(value["$bytes"])[-8:], "big") if isinstance(value, dict) else value
