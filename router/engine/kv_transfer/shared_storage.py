"""Engines that share a store of blocks, such as those with vLLM's ``ExampleConnector`` or LMCache.

They find blocks by the prompt. Leg 1 computes the prompt, which puts its blocks into the store; leg 2 is the request as
it came.
"""

from __future__ import annotations

from router.engine.kv_transfer.fields import read_fields, text_of, write_fields
from router.engine.kv_transfer.legs import HandOverError, Legs
from router.engine.kv_transfer.one_piece import check_divisible
from router.engine.kv_transfer.one_token import PATHS, ask_for_one_token


class SharedStorageConnector:
    name = "shared-storage"
    at_once = False
    aggregates = True
    leases = False
    directory = None

    def serves(self, path: str) -> bool:
        return path in PATHS

    def prefill_body(self, body: bytes, legs: Legs) -> bytes:
        fields = read_fields(body)
        check_divisible(legs.path, fields)
        if legs.path == "/v1/messages" and text_of(fields, "thinking"):
            raise HandOverError("a budget for thinking must be below max_tokens, which is 1 here")
        ask_for_one_token(legs.path, fields)
        return write_fields(fields)

    def decode_body(self, body: bytes, legs: Legs, prefill_answer: bytes) -> bytes:
        return body
