"""What llm-d's sidecar, which stands before a decode replica, may be told to split in two legs.

It asks the prefill replica that a header names, and goes by the path alone. So what engines would hand over too little
of, or something else, is kept from it here.

Source: llm-d-router's ``pkg/sidecar/proxy``.
"""

from __future__ import annotations

from router.engine.kv_transfer.fields import read_fields
from router.engine.kv_transfer.legs import HandOverError
from router.engine.kv_transfer.one_piece import check_divisible

_PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")


def can_split(path: str, body: bytes) -> bool:
    if path not in _PATHS:
        return False
    try:
        check_divisible(path, read_fields(body))
    except HandOverError:
        return False
    return True
