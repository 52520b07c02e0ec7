"""Drives vLLM's own scheduler and the engine model with the same requests, and records what vLLM did.

Not a test: it needs a Python with vLLM in it (0.32 is what was compared). From the root of the repository:

    PYTHONPATH=. python tests/sim/compare_with_vllm.py MODEL_DIRECTORY --seeds 1000
    PYTHONPATH=. python tests/sim/compare_with_vllm.py MODEL_DIRECTORY --record FILE --only 4,74,115,331 --steps 60

The first ends with an error at the first difference in what is scheduled, preempted, found, published or free. The
second writes the runs that ``test_sim_vllm_scheduler.py`` replays without vLLM.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from vllm.config import CacheConfig, KVEventsConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.distributed.kv_events import BlockRemoved, BlockStored
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request as VllmRequest
from vllm.v1.request import RequestStatus
from vllm.v1.structured_output import StructuredOutputManager

from sim.engine import BlocksRemoved, BlocksStored, Engine, EngineConfig, KvEvent, Policy, Request, StepTime

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

    def step(self) -> tuple[dict[str, int], set[str], list[str], dict[str, int], list[list[Any]]]:
        """Tokens scheduled by name, who was preempted since the last step, who ends, tokens found by name, events."""
        scheduled = self.scheduler.schedule()
        names = list(scheduled.num_scheduled_tokens)
        sampled = []
        for name in names:
            request = self.scheduler.requests[name]
            caught_up = request.num_computed_tokens == request.num_tokens
            sampled.append([self.outputs[name][request.num_output_tokens]] if caught_up else [])
        runner = ModelRunnerOutput(names, {name: index for index, name in enumerate(names)}, sampled)
        outputs = [
            one for batch in self.scheduler.update_from_output(scheduled, runner).values() for one in batch.outputs
        ]
        finished = [one.request_id for one in outputs if one.finish_reason is not None]
        cached = {one.request_id: one.prefill_stats.num_cached_tokens for one in outputs if one.prefill_stats}
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


def run(model: ModelConfig, seed: int, steps: int) -> dict[str, Any]:
    """One run of both. Raises AssertionError where they differ. What vLLM did, for the record."""
    rng = random.Random(seed)
    config = random_config(rng)
    vllm, engine = Vllm(model, config), Engine(config)
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
            vllm.submit(name, prompt, output, priority, float(at))
            engine.submit(Request(name, len(prompt), length, np.array(hashes, np.uint64), priority), float(at))
            for index, one in enumerate(hashes):
                names.setdefault(one, f"{name}:{index}")
            submitted[name] = prompt + output
            alive.append(name)
            log.append({"submit": name, "at": at, "prompt": prompt, "output": output, "priority": priority})
        if alive and rng.random() < 0.05:
            name = alive.pop(rng.randrange(len(alive)))
            vllm.scheduler.finish_requests(name, RequestStatus.FINISHED_ABORTED)
            engine.abort(name)
            log.append({"abort": name})
        if rng.random() < 0.03:
            preempt = rng.random() < 0.4
            by_reset = {one.id for one in engine._scheduler.running} if preempt else set()
            success = bool(vllm.scheduler.reset_prefix_cache(reset_running_requests=preempt))
            assert engine.reset_prefix_cache(preempt_running=preempt) == success
            log.append({"reset": success, "preempt_running": preempt})
        if not engine.has_work:
            assert not vllm.scheduler.requests
            continue
        scheduled, preempted, finished, cached, events = vllm.step()
        result = engine.step(float(at))
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
        assert ours.pool.free_queue() == vllm.free_queue(), place
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
            "used_blocks": ours.pool.used_blocks,
        })  # fmt: skip
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
    arguments = parser.parse_args()
    seeds = [int(seed) for seed in arguments.only.split(",")] if arguments.only else range(arguments.seeds)
    init_none_hash(sha256)
    model = ModelConfig(model=str(arguments.model), dtype="float16", skip_tokenizer_init=True, max_model_len=2048)
    records = [run(model, seed, arguments.steps) for seed in seeds]
    if arguments.record:
        arguments.record.write_text("[\n" + ",\n".join(map(_written, records)) + "\n]\n")
    entries = [entry for record in records for entry in record["log"]]
    steps = [entry for entry in entries if "step" in entry]
    preempted = sum(len(entry["preempted"]) for entry in steps)
    print(f"{len(records)} runs, {len(steps)} steps, {preempted} preemptions: no difference")


if __name__ == "__main__":
    main()
