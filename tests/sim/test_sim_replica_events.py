"""KV events of a simulated replica over ZMQ, as vLLM 0.32 publishes them."""

from __future__ import annotations

import json

import pytest
from replica_world import Client, Subscriber, replica_client

from sim.replica.kv_messages import EventForm

REMOVED = {"type": "BlockRemoved", "block_hashes": [], "medium": "GPU", "group_idx": 0}


async def test_a_batch_has_three_frames_and_vllms_members(client: Client, subscriber: Subscriber) -> None:
    prompt = list(range(100, 150))
    await client.complete(prompt=prompt, max_tokens=1)

    topic, sequence, (time_s, events, rank) = await subscriber.raw()

    assert topic == b"kv@replica0@tiny"
    assert len(sequence) == 8
    assert isinstance(time_s, float)
    assert rank == 0
    (event,) = events
    assert list(event) == [
        "type", "block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium", "lora_name",
        "extra_keys", "group_idx", "kv_cache_spec_kind",
    ]  # fmt: skip
    assert len(set(event.pop("block_hashes"))) == 3
    assert event == {
        "type": "BlockStored",
        "parent_block_hash": None,
        "token_ids": prompt[:48],
        "block_size": 16,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
        "extra_keys": [None, None, None],
        "group_idx": 0,
        "kv_cache_spec_kind": "full_attention",
    }


async def test_only_new_blocks_are_stored_with_the_last_hit_as_parent(client: Client, subscriber: Subscriber) -> None:
    prompt = list(range(200, 233))
    await client.complete(prompt=prompt, max_tokens=1)
    known = (await subscriber.batch()).stored[0]["block_hashes"]

    await client.complete(prompt=[*prompt[:32], *range(400, 416), 1], max_tokens=1)
    (event,) = (await subscriber.batch()).stored

    assert event["parent_block_hash"] == known[1]
    assert event["token_ids"] == list(range(400, 416))


async def test_blocks_filled_by_the_answer_are_stored_one_by_one(client: Client, subscriber: Subscriber) -> None:
    answer = await client.complete(prompt=list(range(300, 316)), max_tokens=40, return_token_ids=True)
    batches = [await subscriber.batch() for _ in range(3)]

    stored = [event for batch in batches for event in batch.stored]
    assert [len(event["block_hashes"]) for event in stored] == [1, 1, 1]
    assert [token for event in stored[1:] for token in event["token_ids"]] == answer["choices"][0]["token_ids"][:32]
    assert [event["parent_block_hash"] for event in stored[1:]] == [event["block_hashes"][0] for event in stored[:-1]]
    assert [batch.sequence for batch in batches] == list(range(batches[0].sequence, batches[0].sequence + 3))


async def test_evictions_come_one_by_one_before_the_store_that_needed_them(
    client: Client, subscriber: Subscriber
) -> None:
    await client.complete(prompt=list(range(1000)), max_tokens=1)
    stored = (await subscriber.batch()).stored[0]["block_hashes"]
    await client.complete(prompt=list(range(1000, 2000)), max_tokens=1)
    await subscriber.batch()

    await client.complete(prompt=[7] * 800, max_tokens=1)
    events = (await subscriber.batch()).events

    removed = [event for event in events if event["type"] == "BlockRemoved"]
    assert [event["type"] for event in events] == ["BlockRemoved"] * len(removed) + ["BlockStored"]
    assert all(event | {"block_hashes": []} == REMOVED and len(event["block_hashes"]) == 1 for event in removed)
    of_first = [event["block_hashes"][0] for event in removed if event["block_hashes"][0] in stored]
    assert of_first == stored[::-1][: len(of_first)] != []


async def test_a_cache_salt_makes_other_hashes_and_is_an_extra_key(client: Client, subscriber: Subscriber) -> None:
    prompt = list(range(500, 533))
    hashes = []
    for salt in ("", "tenant"):
        answer = await client.complete(prompt=prompt, max_tokens=1, cache_salt=salt or None)
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
        (event,) = (await subscriber.batch()).stored
        hashes.append(event["block_hashes"])
    assert not set(hashes[0]) & set(hashes[1])
    assert event["extra_keys"] == [["tenant"], None]


@pytest.mark.parametrize("where", ["session_id", "header", "vllm_xargs"])
async def test_session_ids_are_passed_on(client: Client, subscriber: Subscriber, where: str) -> None:
    body = {"session_id": {"session_id": "s1"}, "vllm_xargs": {"vllm_xargs": {"session_id": "s1"}}, "header": {}}
    headers = {"X-Session-ID": "s1"} if where == "header" else {}
    async with client.session.post(
        client.replica.url + "/v1/completions",
        json={"prompt": [9] * 20, "max_tokens": 1, **body[where]},
        headers=headers,
    ) as response:
        assert response.status == 200
    assert (await subscriber.batch()).stored[0]["session_id"] == "s1"


async def test_reset_is_published_with_the_next_step(client: Client, subscriber: Subscriber) -> None:
    await client.complete(prompt=list(range(600, 633)), max_tokens=1)
    await subscriber.batch()

    assert await client.post("/reset_prefix_cache") == (200, {"success": True})
    await client.complete(prompt=list(range(600, 633)), max_tokens=1)

    assert [event["type"] for event in (await subscriber.batch()).events] == ["AllBlocksCleared", "BlockStored"]


async def test_replay_gives_what_is_buffered_from_a_sequence_number_on(client: Client, subscriber: Subscriber) -> None:
    for start in (700, 800, 900):
        await client.complete(prompt=list(range(start, start + 20)), max_tokens=1)
    live = [await subscriber.batch() for _ in range(3)]

    everything = await subscriber.replay(0)

    assert [batch.sequence for batch in everything] == list(range(live[-1].sequence + 1))
    assert everything[-3:] == live
    assert await subscriber.replay(live[1].sequence) == live[1:]
    assert await subscriber.replay(live[-1].sequence + 1) == []


async def test_the_replay_buffer_is_bounded_without_a_sign_of_it() -> None:
    async with replica_client(buffer_steps=2) as client:
        for start in (100, 200, 300):
            await client.complete(prompt=list(range(start, start + 20)), max_tokens=1)
        subscriber = Subscriber(client.replica)
        assert [batch.sequence for batch in await subscriber.replay(0)] == [1, 2]
        subscriber.close()


async def test_requests_to_the_replay_socket_that_make_no_sense_are_ignored(
    client: Client, subscriber: Subscriber
) -> None:
    socket = subscriber._context.socket(5)  # DEALER
    socket.connect(f"tcp://127.0.0.1:{client.replica.kv_replay_port}")
    await socket.send_multipart([b"what", b"is", b"this", b"?"])
    socket.close(linger=0)
    assert await subscriber.replay(10**6) == []


async def test_the_array_form_of_older_versions() -> None:
    async with replica_client(event_form=EventForm.ARRAY) as client:
        subscriber = Subscriber(client.replica)
        await client.complete(prompt=list(range(20)), max_tokens=1)
        ((stored,),) = [batch.events for batch in await subscriber.replay(0)]
        subscriber.close()
    tag, hashes, *rest = stored
    assert (tag, len(hashes)) == ("BlockStored", 1)
    assert rest == [None, list(range(16)), 16, None, "GPU", None, [None], 0, "full_attention"]


async def test_the_sources_are_listed(client: Client) -> None:
    sources = json.loads((await client.get("/kv_event_sources"))[1])
    assert sources == {
        "0": {
            "enable_kv_cache_events": True,
            "publisher": "zmq",
            "endpoint": f"tcp://*:{client.replica.kv_events_port}",
            "replay_endpoint": f"tcp://*:{client.replica.kv_replay_port}",
            "buffer_steps": 10_000,
            "hwm": 100_000,
            "max_queue_size": 100_000,
            "topic": "kv@replica0@tiny",
        }
    }


async def test_a_replica_can_do_without_events() -> None:
    async with replica_client(kv_events_port=None) as client:
        assert (await client.get("/kv_event_sources"))[1] == "{}"
        await client.complete(prompt=list(range(20)), max_tokens=1)
