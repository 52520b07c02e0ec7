"""SGLang: both legs carry the prefill replica's bootstrap address and a room in which the engines meet.

Both requests go out at once; the prefill replica sends the blocks when the decode replica has said where to. A decode
replica of SGLang refuses whatever has no room, so it can serve nothing alone. Prompts in lists and several answers are
its own business: it gives each a room of its own, counted on from the first.
"""

from __future__ import annotations

from hashlib import blake2b

from router.engine.kv_transfer.fields import FALSE, Fields, raw, read_fields, write_fields
from router.engine.kv_transfer.legs import Legs, bootstrap_host, bootstrap_port

_PATHS = frozenset({"/v1/completions", "/v1/chat/completions"})


class SglangConnector:
    name = "sglang"
    at_once = True
    aggregates = False
    leases = False
    directory = None

    def serves(self, path: str) -> bool:
        return path in _PATHS

    def prefill_body(self, body: bytes, legs: Legs) -> bytes:
        """Unstreamed, so that the answer says what it cost."""
        fields = _with_room(body, legs)
        fields.pop("stream_options", None)
        if "stream" in fields:
            fields["stream"] = FALSE
        return write_fields(fields)

    def decode_body(self, body: bytes, legs: Legs, prefill_answer: bytes) -> bytes:
        return write_fields(_with_room(body, legs))


def _with_room(body: bytes, legs: Legs) -> Fields:
    fields = read_fields(body)
    fields["bootstrap_host"] = raw(bootstrap_host(legs.prefill))
    fields["bootstrap_port"] = raw(bootstrap_port(legs.prefill))
    fields["bootstrap_room"] = raw(_room(legs.transfer_id))
    return fields


def _room(transfer_id: str) -> int:
    """63 bits, which do not run over when rooms are counted on from it."""
    return int.from_bytes(blake2b(transfer_id.encode(), digest_size=8).digest(), "big") >> 1
