"""vLLM's ``NixlConnector``: the prefill replica says where its blocks are, and the decode replica fetches them.

Leg 1 asks for one token and for the blocks to be kept (30 s, unless the engine was told another lease). Its answer's
``kv_transfer_params`` goes into leg 2 as it is. A streamed answer would not carry it.
"""

from __future__ import annotations

import msgspec

from router.engine.kv_transfer.fields import raw, read_fields, write_fields
from router.engine.kv_transfer.legs import HandOverError, Legs
from router.engine.kv_transfer.one_piece import check_divisible
from router.engine.kv_transfer.one_token import PATHS, ask_for_one_token

_KEEP = raw(
    {
        "do_remote_decode": True,
        "do_remote_prefill": False,
        "remote_engine_id": None,
        "remote_block_ids": None,
        "remote_host": None,
        "remote_port": None,
    }
)


class _Answer(msgspec.Struct):
    kv_transfer_params: msgspec.Raw = msgspec.Raw()


class _Params(msgspec.Struct):
    """What can be told of parameters that only engines understand."""

    do_remote_prefill: bool = False
    remote_block_ids: list[msgspec.Raw] = []
    transfer_mode: str = "pull"


_ANSWERS = msgspec.json.Decoder(_Answer)
_PARAMS = msgspec.json.Decoder(_Params)


class NixlConnector:
    name = "nixl"
    at_once = False
    aggregates = True
    leases = True
    directory = None

    def serves(self, path: str) -> bool:
        return path in PATHS

    def prefill_body(self, body: bytes, legs: Legs) -> bytes:
        fields = read_fields(body)
        check_divisible(legs.path, fields)
        ask_for_one_token(legs.path, fields)
        fields["kv_transfer_params"] = _KEEP
        return write_fields(fields)

    def decode_body(self, body: bytes, legs: Legs, prefill_answer: bytes) -> bytes:
        fields = read_fields(body)
        fields["kv_transfer_params"] = _params_in(prefill_answer)
        return write_fields(fields)


def _params_in(answer: bytes) -> msgspec.Raw:
    try:
        params = _ANSWERS.decode(answer).kv_transfer_params
        read = _PARAMS.decode(params or b"null")
    except (msgspec.DecodeError, RecursionError) as error:
        raise HandOverError(f"the prefill replica's answer has no usable kv_transfer_params: {error}") from error
    if read.transfer_mode != "pull":
        raise HandOverError(f"the prefill replica wants to {read.transfer_mode}, which needs both legs at once")
    if not read.do_remote_prefill or not read.remote_block_ids:
        raise HandOverError("the prefill replica kept no blocks")
    return params
