"""Replicas that hand a prompt over: what the one that computed it answers, and what the one that goes on is asked."""

from __future__ import annotations

import json
from typing import Any

from proxy_rig import ANSWER, Call, Script, ok

PROMPT_TOKENS = 1000
CACHED_TOKENS = 128
"""What the prefill replica had."""

ONE_TOKEN = b'{"choices":[{"index":0,"message":{"content":"h"},"finish_reason":"length"}]}'


def usage(cached_tokens: int | None) -> bytes:
    details = "null" if cached_tokens is None else f'{{"cached_tokens":{cached_tokens}}}'
    return (
        f'{{"prompt_tokens":{PROMPT_TOKENS},"total_tokens":1002,"completion_tokens":2,"prompt_tokens_details":{details}}}'
    ).encode()


def prefilled(cached_tokens: int | None = CACHED_TOKENS) -> Script:
    """A script of vLLM's NIXL connector: each answer says where the blocks of that one request are."""
    times = 0

    async def script(call: Call) -> None:
        nonlocal times
        times += 1
        params = {"do_remote_prefill": True, "remote_block_ids": [[times]], "remote_request_id": f"leg-{times}"}
        answer = b'{"choices":[],"usage":%s,"kv_transfer_params":%s}'
        call.send(ok(answer % (usage(cached_tokens), json.dumps(params).encode())))

    return script


def params(call: Call) -> dict[str, Any] | None:
    """What a replica was told of the transfer."""
    found = json.loads(call.body).get("kv_transfer_params")
    assert found is None or isinstance(found, dict)
    return found


def answered(cached_tokens: int | None) -> bytes:
    """An unstreamed answer."""
    return ANSWER[:-1] + b',"usage":' + usage(cached_tokens) + b"}"


def unless_handed_over(refusal: Script, whole: Script) -> Script:
    """A decode replica that cannot fetch, and can compute."""

    async def script(call: Call) -> None:
        await (whole if params(call) is None else refusal)(call)

    return script
