"""vLLM's ``MooncakeConnector``: the legs meet under an id that the router makes.

The decode replica asks for the blocks of ``transfer_id`` at the engine ``remote_engine_id``, whose address it learns
from the prefill replica's bootstrap server. That server also tells the router which engine that is: ``GET /query``
answers ``{"0": {"engine_id": ..., "worker_addr": ...}}``, by data-parallel rank. Leg 1's answer carries nothing, but
one that did not end for its length has left nothing to fetch, and the decode replica would wait for it.
"""

from __future__ import annotations

import msgspec

from router.core.fleet import MAX_REPLICAS
from router.core.types import ReplicaSpec
from router.engine.kv_transfer.fields import raw, read_fields, write_fields
from router.engine.kv_transfer.legs import HandOverError, Legs, bootstrap_host, bootstrap_port
from router.engine.kv_transfer.one_piece import check_divisible
from router.engine.kv_transfer.one_token import PATHS, ask_for_one_token


class _Engine(msgspec.Struct):
    engine_id: str


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    """Of chat and completions; ``stop_reason`` is that of Anthropic's messages, ``status`` that of responses."""

    choices: list[_Choice] = []
    stop_reason: str | None = None
    status: str | None = None

    @property
    def ended_for_its_length(self) -> bool:
        if self.choices:
            return all(choice.finish_reason == "length" for choice in self.choices)
        return self.stop_reason == "max_tokens" or self.status == "incomplete"


_ENGINES = msgspec.json.Decoder(dict[str, _Engine])
_ANSWERS = msgspec.json.Decoder(_Answer)


class EngineIds:
    """The ids of engines by the address of their bootstrap server, as long as nothing goes wrong with them.

    Replicas come and go, and nobody tells: when there are too many addresses, all are asked for anew.
    """

    def __init__(self) -> None:
        self._by_address: dict[str, dict[str, str]] = {}

    def url_of(self, prefill: ReplicaSpec) -> str | None:
        address = address_of(prefill)
        return None if address in self._by_address else f"{address}/query"

    def learn(self, prefill: ReplicaSpec, answer: bytes) -> None:
        try:
            engines = _ENGINES.decode(answer)
        except msgspec.DecodeError as error:
            raise HandOverError(f"the bootstrap server of {prefill.name} names no engines: {error}") from error
        if len(self._by_address) >= MAX_REPLICAS:
            self._by_address.clear()
        self._by_address[address_of(prefill)] = {rank: engine.engine_id for rank, engine in engines.items()}

    def forget(self, prefill: ReplicaSpec) -> None:
        self._by_address.pop(address_of(prefill), None)

    def of(self, prefill: ReplicaSpec) -> str:
        """Raises HandOverError when it is not known which engine computes there."""
        ids = self._by_address.get(address_of(prefill), {})
        if prefill.rank is None and len(ids) == 1:
            return next(iter(ids.values()))
        found = ids.get(str(prefill.rank))
        if found is None:
            raise HandOverError(f"the bootstrap server of {prefill.name} does not say which engine it is")
        return found


class MooncakeConnector:
    name = "mooncake"
    at_once = False
    aggregates = True
    leases = True

    def __init__(self) -> None:
        self.directory = EngineIds()

    def serves(self, path: str) -> bool:
        return path in PATHS

    def prefill_body(self, body: bytes, legs: Legs) -> bytes:
        fields = read_fields(body)
        check_divisible(legs.path, fields)
        ask_for_one_token(legs.path, fields)
        fields["kv_transfer_params"] = raw(
            {"do_remote_decode": True, "do_remote_prefill": False, "transfer_id": legs.transfer_id}
        )
        return write_fields(fields)

    def decode_body(self, body: bytes, legs: Legs, prefill_answer: bytes) -> bytes:
        _check_ended_for_its_length(prefill_answer)
        fields = read_fields(body)
        fields["kv_transfer_params"] = raw(
            {
                "do_remote_decode": False,
                "do_remote_prefill": True,
                "transfer_id": legs.transfer_id,
                "remote_bootstrap_addr": address_of(legs.prefill),
                "remote_engine_id": self.directory.of(legs.prefill),
            }
        )
        return write_fields(fields)


def address_of(prefill: ReplicaSpec) -> str:
    """The base URL of a replica's bootstrap server. Raises HandOverError."""
    return f"http://{bootstrap_host(prefill)}:{bootstrap_port(prefill)}"


def _check_ended_for_its_length(answer: bytes) -> None:
    try:
        ended = _ANSWERS.decode(answer).ended_for_its_length
    except (msgspec.DecodeError, RecursionError) as error:
        raise HandOverError(f"the prefill replica's answer cannot be read: {error}") from error
    if not ended:
        raise HandOverError("the prefill replica ended its answer by itself and kept no blocks")
