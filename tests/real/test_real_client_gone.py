"""A client that leaves in the middle of an answer: vLLM stops computing it."""

from __future__ import annotations

import asyncio
import time

from replicas import model_directory

STREAMS = 6
SOON_S = 2.0
"""The answers would take far longer than this."""


async def test_requests_of_clients_that_left_are_aborted(replicas, weft, http, figure) -> None:
    def running() -> float:
        return sum(replica.metric("vllm:num_requests_running") for replica in replicas)

    body = {
        "model": "tiny",
        "messages": [{"role": "user", "content": "Tell me everything."}],
        "max_tokens": 16000,
        "ignore_eos": True,
        "stream": True,
    }
    with weft(replicas, "--tokenizer", str(model_directory("tiny"))) as router:
        streams = []
        for _ in range(STREAMS):
            stream = await http.post(f"{router.url}/v1/chat/completions", json=body)
            assert await stream.content.readany()
            streams.append(stream)
        assert running() == STREAMS
        left_s = time.monotonic()
        for stream in streams:
            stream.close()
        while running() > 0 and time.monotonic() < left_s + SOON_S:
            await asyncio.sleep(0.01)
        took_s = time.monotonic() - left_s
        assert running() == 0
        assert router.metric("weft_clients_gone_total") == STREAMS
        assert router.metric("weft_requests_in_flight") == 0
        assert router.metric("weft_replica_running_requests") == 0
    figure(f"{STREAMS} streams: vLLM idle {took_s * 1000:.0f} ms after the clients left")
