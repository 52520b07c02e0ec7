"""The engine model against what vLLM 0.32's own scheduler did with the same requests.

``vllm_0_32_scheduler.json`` holds four runs of ``vllm.v1.core.sched.scheduler.Scheduler``: random requests with shared
prefixes, aborts and cache resets, and after each step what it scheduled, preempted, found in the cache and published.
A block is named ``request:index`` after the first request that contained it. In ``vllm_0_32_transfers.json`` requests
also fetch KV blocks of their prompts, which arrive or not, or keep them for others. ``compare_with_vllm.py`` recorded
them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from engine_world import chained

from sim.engine import (
    BlocksRemoved,
    BlocksStored,
    Engine,
    EngineConfig,
    KvEvent,
    KvLoadFailurePolicy,
    Policy,
    Request,
    StepTime,
)
from sim.engine.batch import Batch

RECORDED = ("vllm_0_32_scheduler.json", "vllm_0_32_transfers.json")
RUNS = [run for name in RECORDED for run in json.loads((Path(__file__).parent / name).read_text())]


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"{run['policy']}-{run['block_size']}-{run['num_blocks']}")
def test_does_in_every_step_what_vllm_did(run: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(
        EngineConfig(
            StepTime(1, 1, 1, 1, 1),
            num_blocks=run["num_blocks"],
            block_size_tokens=run["block_size"],
            max_num_batched_tokens=run["budget"],
            max_num_seqs=run["max_seqs"],
            max_model_len_tokens=run["max_len"],
            policy=Policy(run["policy"]),
            kv_load_failure_policy=KvLoadFailurePolicy.RECOMPUTE,
        )
    )
    batches: list[Batch] = []
    schedule = engine._scheduler.schedule

    def recording(now: float) -> Batch:
        batches.append(schedule(now))
        return batches[-1]

    monkeypatch.setattr(engine._scheduler, "schedule", recording)
    names: dict[int, str] = {}

    def described(events: list[KvEvent]) -> list[list[Any]]:
        lines: list[list[Any]] = []
        for event in events:
            if isinstance(event, BlocksStored):
                last = event.first_block + event.blocks
                lines.append(["stored", [names[h] for h in event.request.block_hashes[event.first_block : last]]])
            elif isinstance(event, BlocksRemoved):
                lines += [["removed", names[block_hash]] for block_hash in event.hashes]
            else:
                lines.append(["cleared"])
        return lines

    for entry in run["log"]:
        if "submit" in entry:
            hashes = chained(entry["prompt"] + entry["output"], run["block_size"])
            for index, block_hash in enumerate(hashes):
                names.setdefault(block_hash, f"{entry['submit']}:{index}")
            request = Request(entry["submit"], len(entry["prompt"]), len(entry["output"]), hashes, entry["priority"])
            request.remote_tokens = entry.get("remote_tokens", 0)
            request.keep_for_transfer = entry.get("keep", False)
            engine.submit(request, float(entry["at"]))
        elif "abort" in entry:
            assert engine.abort(entry["abort"])
        elif "reset" in entry:
            assert engine.reset_prefix_cache(preempt_running=entry["preempt_running"]) == entry["reset"]
        else:
            result = engine.step(float(entry["step"]))
            batch = batches[-1]
            assert {r.id: tokens for r, tokens in batch.tokens.items()} == entry["scheduled"]
            assert [r.id for r in batch.preempted] == entry["preempted"]
            assert [r.id for r in result.finished] == entry["finished"]
            cached = {r.id: r.cached_tokens for r in result.emitted if r.generated_tokens == 1}
            assert cached == entry["cached"]
            assert described(result.events) == entry["events"]
            assert [r.id for r in result.fetching] == entry.get("fetching", [])
            for told, names_of in (
                (engine.kv_arrived, "arrived"),
                (engine.kv_failed, "failed"),
                (engine.release, "released"),
            ):
                assert [told(name) for name in entry.get(names_of, ())].count(False) == 0
            assert round(engine.kv_usage * engine.config.usable_blocks) == entry["used_blocks"]
