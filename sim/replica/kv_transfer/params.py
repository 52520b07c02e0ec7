"""vLLM's ``kv_transfer_params``: what a request says of the two legs, and what the first one's answer says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from sim.engine import Request


@dataclass(slots=True, frozen=True)
class Source:
    """Where the keys and values of a prompt are."""

    engine_id: str
    request_id: str
    host: str
    port: int


class KvTransferParams(msgspec.Struct):
    """Of a request. vLLM ignores members that it does not know, and so does this."""

    do_remote_decode: bool = False
    """This is the first leg: another replica comes for the blocks."""
    do_remote_prefill: bool = False
    """This is the second leg: the blocks are at another replica."""
    remote_engine_id: str | None = None
    remote_request_id: str | None = None
    remote_block_ids: list[list[int]] | None = None
    remote_host: str | None = None
    remote_port: int | None = None
    remote_prefill_cached_tokens: int | None = None

    @property
    def source(self) -> Source | None:
        """None where there is nothing to fetch, or where a member that tells the place is missing."""
        engine_id, request_id, host, port = (
            self.remote_engine_id,
            self.remote_request_id,
            self.remote_host,
            self.remote_port,
        )
        if not self.do_remote_prefill or not self.remote_block_ids:
            return None
        if engine_id is None or request_id is None or host is None or port is None:
            return None
        return Source(engine_id, request_id, host, port)


def params_for_second_leg(request: Request, engine_id: str, host: str, port: int) -> dict[str, Any]:
    """Of the answer to a first leg that has finished: all that vLLM 0.32 says."""
    return {
        "do_remote_prefill": True,
        "do_remote_decode": False,
        "remote_block_ids": [request.blocks.tolist()],
        "remote_engine_id": engine_id,
        "remote_request_id": request.id,
        "remote_host": host,
        "remote_port": port,
        "tp_size": 1,
        "dcp_size": 1,
        "pp_size": 1,
        "remote_num_tokens": request.computed_tokens,
        "remote_blocks_expiry_time": None,
        "transfer_mode": "pull",
        "remote_prefill_cached_tokens": request.cached_tokens,
    }
