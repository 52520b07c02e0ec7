"""Drives vLLM's own scheduler and the engine model with the same requests, and records what vLLM did.

Not a test: it needs a Python with vLLM in it (0.32 is what was compared). From the root of the repository:

    PYTHONPATH=. python tests/sim/compare_with_vllm.py MODEL_DIRECTORY --seeds 1000
    PYTHONPATH=. python tests/sim/compare_with_vllm.py MODEL_DIRECTORY --record FILE --only 4,74,115,331 --steps 60
    PYTHONPATH=. python tests/sim/compare_with_vllm.py MODEL_DIRECTORY --seeds 1000 --transfers

The first ends with an error at the first difference in what is scheduled, preempted, found, published or free. The
second writes the runs that ``test_sim_vllm_scheduler.py`` replays without vLLM. In the third, requests fetch their
prompts' KV blocks or keep them for others, through a connector that does as it is told.
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from vllm.config import CacheConfig, KVEventsConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.distributed.kv_events import BlockRemoved, BlockStored
from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorBase_V1, KVConnectorMetadata
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import KVConnectorOutput, ModelRunnerOutput
from vllm.v1.request import Request as VllmRequest
from vllm.v1.request import RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

from sim.engine import (
    BlocksRemoved,
    BlocksStored,
    Engine,
    EngineConfig,
    KvEvent,
    KvLoadFailurePolicy,
    Policy,
    Request,
    Status,
    StepTime,
)

TOKENS = 50
"""Size of the vocabulary."""


def chain(parent: int, tokens: list[int]) -> int:
    return hash((parent, *tokens)) % 2**64


def chained(tokens: list[int], block_size: int) -> list[int]:
    hashes, parent = [], 0
    for start in range(0, len(tokens) - block_size + 1, block_size):
        parent = chain(parent, tokens[start : start + block_size])
        hashes.append(parent)
    return hashes


class Connector(KVConnectorBase_V1):
    """The scheduler's side of a connector like vLLM's NixlConnector; what is fetched when is not its affair."""

    def __init__(self) -> None:
        self.remote: dict[str, int] = {}
        """Prompt tokens that can be fetched, until they are."""
        self.kept: set[str] = set()
        """Requests whose blocks are kept when they end."""

    def get_num_new_matched_tokens(self, request: VllmRequest, num_computed_tokens: int) -> tuple[int, bool]:
        tokens = self.remote.get(request.request_id, 0) - num_computed_tokens
        return max(tokens, 0), tokens > 0

    def update_state_after_alloc(self, request: VllmRequest, blocks: Any, num_external_tokens: int) -> None:
        self.remote.pop(request.request_id, None)

    def request_finished(self, request: VllmRequest, block_ids: list[int]) -> tuple[bool, None]:
        keeps = request.request_id in self.kept and request.status is RequestStatus.FINISHED_LENGTH_CAPPED
        return keeps, None

    def build_connector_meta(self, scheduler_output: Any) -> KVConnectorMetadata:
        return KVConnectorMetadata()

    def get_loaded_kv_cache_group_ids(self, request: VllmRequest) -> tuple[int, ...]:
        return (0,)

    def update_connector_output(self, connector_output: KVConnectorOutput) -> None:
        """Nothing to remember."""

    def start_load_kv(self, forward_context: Any, **kwargs: Any) -> None:
        raise NotImplementedError

    def wait_for_layer_load(self, layer_name: str) -> None:
        raise NotImplementedError

    def save_kv_layer(self, layer_name: str, kv_layer: Any, attn_metadata: Any, **kwargs: Any) -> None:
        raise NotImplementedError

    def wait_for_save(self) -> None:
        raise NotImplementedError


class Vllm:
    """vLLM's scheduler, a model runner that knows every answer, and names for its block hashes."""

    def __init__(self, model: ModelConfig, config: EngineConfig) -> None:
        model.max_model_len = config.max_model_len_tokens
        cache = CacheConfig(block_size=config.block_size_tokens, enable_prefix_caching=True)
        cache.num_gpu_blocks = config.num_blocks
        vllm_config = VllmConfig(
            model_config=model,
            cache_config=cache,
            scheduler_config=SchedulerConfig(
                max_num_seqs=config.max_num_seqs,
                max_num_batched_tokens=config.max_num_batched_tokens,
                max_model_len=config.max_model_len_tokens,
                policy=config.policy,
                is_encoder_decoder=False,
                async_scheduling=False,
            ),
            kv_events_config=KVEventsConfig(enable_kv_cache_events=True, publisher="null"),
        )
        spec = FullAttentionSpec(config.block_size_tokens, num_kv_heads=1, head_size=1, dtype=torch.float32)
        self.scheduler = Scheduler(
            vllm_config=vllm_config,
            kv_cache_config=KVCacheConfig(config.num_blocks, [], [KVCacheGroupSpec(["layer"], spec)]),
            structured_output_manager=StructuredOutputManager(vllm_config),
            block_size=config.block_size_tokens,
            log_stats=True,
        )
        self.connector = Connector()
        self.scheduler.connector = self.connector
        self.outputs: dict[str, list[int]] = {}
        self._events: list[Any] = []
        self._hashes: dict[Any, int] = {}
        self._block_size = config.block_size_tokens
        self._hasher = get_request_block_hasher(config.block_size_tokens, sha256)
        self.scheduler.kv_event_publisher.publish = lambda batch: self._events.extend(batch.events)

    def submit(self, name: str, prompt: list[int], output: list[int], priority: int, at: float) -> None:
        self.outputs[name] = output
        params = SamplingParams(max_tokens=len(output), ignore_eos=True, temperature=0)
        request = VllmRequest(name, prompt, params, None, arrival_time=at, priority=priority, block_hasher=self._hasher)
        self.scheduler.add_request(request)

    def step(
        self, transfers: KVConnectorOutput
    ) -> tuple[dict[str, int], set[str], list[str], dict[str, int], list[list[Any]]]:
        """Tokens scheduled by name, who was preempted since the last step, who ends, tokens found by name, events.
        ``transfers`` ended during the step."""
        scheduled = self.scheduler.schedule()
        names = list(scheduled.num_scheduled_tokens)
        sampled = []
        for name in names:
            request = self.scheduler.requests[name]
            caught_up = request.num_computed_tokens == request.num_tokens
            sampled.append([self.outputs[name][request.num_output_tokens]] if caught_up else [])
        runner = ModelRunnerOutput(names, {name: index for index, name in enumerate(names)}, sampled)
        runner.kv_connector_output = transfers
        outputs = [
            one for batch in self.scheduler.update_from_output(scheduled, runner).values() for one in batch.outputs
        ]
        finished = [one.request_id for one in outputs if one.finish_reason is not None]
        cached = {one.request_id: one.prefill_stats.num_local_cached_tokens for one in outputs if one.prefill_stats}
        tokens = dict(scheduled.num_scheduled_tokens)
        return tokens, scheduled.preempted_req_ids, finished, cached, self._take_events()

    def free_queue(self) -> list[int]:
        return [
            block.block_id
            for block in self.scheduler.kv_cache_manager.block_pool.free_block_queue.get_all_free_blocks()
        ]

    def _take_events(self) -> list[list[Any]]:
        written: list[list[Any]] = []
        for event in self._events:
            if isinstance(event, BlockStored):
                written.append(["stored", self._named(event)])
            elif isinstance(event, BlockRemoved):
                written += [["removed", self._hashes[one]] for one in event.block_hashes]
            else:
                written.append(["cleared"])
        self._events.clear()
        return written

    def _named(self, event: BlockStored) -> list[int]:
        parent = 0 if event.parent_block_hash is None else self._hashes[event.parent_block_hash]
        for index, name in enumerate(event.block_hashes):
            parent = chain(parent, event.token_ids[index * self._block_size : (index + 1) * self._block_size])
            self._hashes[name] = parent
        return [self._hashes[name] for name in event.block_hashes]


def described(events: list[KvEvent]) -> list[list[Any]]:
    written: list[list[Any]] = []
    for event in events:
        if isinstance(event, BlocksStored):
            end = event.first_block + event.blocks
            written.append(["stored", event.request.block_hashes[event.first_block : end].tolist()])
        elif isinstance(event, BlocksRemoved):
            written += [["removed", one] for one in event.hashes.tolist()]
        else:
            written.append(["cleared"])
    return written


def random_config(rng: random.Random) -> EngineConfig:
    block_size = rng.choice([1, 2, 4, 16])
    longest = rng.choice([24, 48, 96]) * max(1, block_size // 2)
    blocks = longest // block_size + 2 + rng.randrange(3 * longest // block_size + 2)
    budget, seqs = rng.choice([8, 16, 40, 200]), rng.choice([2, 4, 8, 32])
    policy = Policy(rng.choice(["fcfs", "priority"]))
    return EngineConfig(StepTime(1, 1, 1, 1, 1), blocks, block_size, max(budget, seqs), seqs, longest, policy)


class Transfers:
    """Who fetches and who is kept, and what becomes of them, in both."""

    def __init__(self, vllm: Vllm, engine: Engine, rng: random.Random) -> None:
        self._vllm = vllm
        self._engine = engine
        self._rng = rng
        self.fetching: list[Request] = []
        self.kept: list[str] = []

    def draw(self, request: Request) -> None:
        """Before it is submitted."""
        kind = self._rng.random()
        if kind < 0.4:
            some_tokens = self._rng.randint(1, request.prompt_tokens)
            request.remote_tokens = self._rng.choice([request.prompt_tokens, some_tokens])
            self._vllm.connector.remote[request.id] = request.remote_tokens
        elif kind < 0.6:
            request.keep_for_transfer = True
            self._vllm.connector.kept.add(request.id)

    def end_some(self) -> KVConnectorOutput:
        """Those that end during a step; they are told to our engine after it."""
        ended = KVConnectorOutput(finished_sending=set(), finished_recving=set())
        for request in list(self.fetching):
            if self._rng.random() < 0.3:
                self.fetching.remove(request)
                ended.finished_recving.add(request.id)
                if self._rng.random() < 0.3:
                    ended.failed_recving.add(request.id)
        for name in list(self.kept):
            if self._rng.random() < 0.3:
                self.kept.remove(name)
                ended.finished_sending.add(name)
        return ended

    def tell(self, ended: KVConnectorOutput, finished: list[Request], fetching: list[Request]) -> None:
        """What ended during a step, and what began in it."""
        for name in sorted(ended.finished_recving):
            assert self._engine.kv_failed(name) if name in ended.failed_recving else self._engine.kv_arrived(name)
        for name in ended.finished_sending:
            assert self._engine.release(name)
        self.kept += [one.id for one in finished if one.keep_for_transfer]
        self.fetching += fetching


def run(model: ModelConfig, seed: int, steps: int, *, transfers: bool = False) -> dict[str, Any]:
    """One run of both. Raises AssertionError where they differ. What vLLM did, for the record."""
    rng = random.Random(seed)
    config = replace(random_config(rng), kv_load_failure_policy=KvLoadFailurePolicy.RECOMPUTE)
    vllm, engine = Vllm(model, config), Engine(config)
    moving = Transfers(vllm, engine, rng)
    names: dict[int, str] = {}
    log: list[dict[str, Any]] = []
    alive: list[str] = []
    longest = config.max_model_len_tokens
    texts = [[rng.randrange(TOKENS) for _ in range(longest)] for _ in range(3)]
    submitted: dict[str, list[int]] = {}
    for at in range(steps):
        by_reset: set[str] = set()
        for _ in range(rng.choice([0, 0, 1, 1, 2, 3]) if at <= steps * 0.7 else 0):
            name, base = f"{len(submitted):04d}", rng.choice(texts)
            prompt = base[: rng.randrange(1, len(base) + 1)]
            prompt = (prompt + [rng.randrange(TOKENS) for _ in range(rng.choice([0, 1, 3, 7]))])[: longest - 1]
            length = min(rng.choice([1, 2, 5, 12, 30]), longest - len(prompt))
            output = [rng.randrange(TOKENS) for _ in range(length)]
            priority = rng.choice([0, 0, 1, -1, 5]) if config.policy is Policy.PRIORITY else 0
            hashes = chained(prompt + output, config.block_size_tokens)
            request = Request(name, len(prompt), length, np.array(hashes, np.uint64), priority)
            if transfers:
                moving.draw(request)
            vllm.submit(name, prompt, output, priority, float(at))
            engine.submit(request, float(at))
            for index, one in enumerate(hashes):
                names.setdefault(one, f"{name}:{index}")
            submitted[name] = prompt + output
            alive.append(name)
            log.append({"submit": name, "at": at, "prompt": prompt, "output": output, "priority": priority})
            if transfers:
                log[-1] |= {"remote_tokens": request.remote_tokens, "keep": request.keep_for_transfer}
        if alive and rng.random() < 0.05:
            name = rng.choice(alive)
            if engine.requests[name].status is not Status.FETCHING:  # vLLM keeps its blocks until the end of the fetch.
                alive.remove(name)
                vllm.scheduler.finish_requests(name, RequestStatus.FINISHED_ABORTED)
                engine.abort(name)
                log.append({"abort": name})
        if rng.random() < 0.03:
            preempt = rng.random() < 0.4 and not transfers  # vLLM raises an error while one is under way.
            by_reset = {one.id for one in engine._scheduler.running} if preempt else set()
            success = bool(vllm.scheduler.reset_prefix_cache(reset_running_requests=preempt))
            assert engine.reset_prefix_cache(preempt_running=preempt) == success
            log.append({"reset": success, "preempt_running": preempt})
        if not engine.has_work and not engine.requests and not engine.kept:
            assert not vllm.scheduler.requests
            continue
        ended = moving.end_some()
        scheduled, preempted, finished, cached, events = vllm.step(ended)
        result = engine.step(float(at))
        moving.tell(ended, result.finished, result.fetching)
        found = {one.id: one.cached_tokens for one in result.emitted if one.generated_tokens == 1}
        place = f"seed {seed}, step {at}, {config}"
        assert [one.id for one in result.finished] == finished, place
        assert result.computed_tokens == sum(scheduled.values()), place
        assert found == cached, place
        assert {one.id for one in result.preempted} | by_reset == preempted, place
        assert described(result.events) == events, place
        ours, theirs = engine._scheduler, vllm.scheduler
        assert [one.id for one in ours.running] == [one.request_id for one in theirs.running], place
        assert [one.id for one in ours.waiting] == [one.request_id for one in theirs.waiting], place
        assert {one.id for one in ours.fetchers} == {one.request_id for one in theirs.kv_holding_waiting}, place
        assert ours.cache.pool.free_queue() == vllm.free_queue(), place
        for name in finished:
            alive.remove(name)
            texts.append(submitted[name])
        log.append({
            "step": at,
            "scheduled": scheduled,
            "preempted": [one.id for one in result.preempted],
            "finished": finished,
            "cached": cached,
            "events": [[_label(part, names) for part in event] for event in events],
            "used_blocks": ours.cache.pool.used_blocks,
        })  # fmt: skip
        if transfers:
            arrived = ended.finished_recving - ended.failed_recving
            log[-1] |= {
                "fetching": [one.id for one in result.fetching],
                "arrived": sorted(arrived),
                "failed": sorted(ended.failed_recving),
                "released": sorted(ended.finished_sending),
            }
    return {
        "block_size": config.block_size_tokens,
        "max_len": longest,
        "num_blocks": config.num_blocks,
        "budget": config.max_num_batched_tokens,
        "max_seqs": config.max_num_seqs,
        "policy": config.policy,
        "log": log,
    }


def _label(part: Any, names: dict[int, str]) -> Any:
    if isinstance(part, list):
        return [names[one] for one in part]
    return names.get(part, part)


def _written(record: dict[str, Any]) -> str:
    head = ", ".join(f"{json.dumps(key)}: {json.dumps(value)}" for key, value in record.items() if key != "log")
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in record["log"])
    return f'{{{head}, "log": [\n{lines}\n]}}'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="directory with the config.json of any small model")
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--only", default="", help="these seeds, with commas between them")
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--record", type=Path)
    parser.add_argument("--transfers", action="store_true", help="requests fetch KV blocks, or keep them for others")
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.only.split(",")] if arguments.only else range(arguments.seeds)
    init_none_hash(sha256)
    model = ModelConfig(model=str(arguments.model), dtype="float16", skip_tokenizer_init=True, max_model_len=2048)
    records = [run(model, seed, arguments.steps, transfers=arguments.transfers) for seed in seeds]
    if arguments.record:
        arguments.record.write_text("[\n" + ",\n".join(map(_written, records)) + "\n]\n")
    entries = [entry for record in records for entry in record["log"]]
    steps = [entry for entry in entries if "step" in entry]
    preempted = sum(len(entry["preempted"]) for entry in steps)
    fetches = sum(len(entry.get("fetching", ())) for entry in steps)
    failed = sum(len(entry.get("failed", ())) for entry in steps)
    did = f"{len(steps)} steps, {preempted} preemptions, {fetches} fetches of which {failed} failed"
    print(f"{len(records)} runs, {did}: no difference")


if __name__ == "__main__":
    main()
