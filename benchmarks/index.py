"""What the prefix index costs: store, remove, match, hash, memory, and the longest pause of a store.

    python benchmarks/index.py [--quick] [--json FILE]

Runs on one core, to which it pins itself where the system lets it. Replicas hold prompts of 1,000 blocks of 16
tokens, and no two hold the same block unless a column says "shared". A store hashes the blocks as well; "store"
and "remove" are measured at the stated number of held blocks, "fill" while it is reached from nothing. Stores
and removals are CPU time, so that other work on the machine counts less; queries are wall time.

Beside the index: a dict of Python integers and, where ``ai-dynamo-runtime`` is installed, Dynamo's RadixTree and
hash function as its Python package offers them (events as JSON, a thread of its own).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np

from router.core.index.batch import KvBatch
from router.core.index.hashing import hash_blocks
from router.core.index.prefix_index import PrefixIndex
from router.core.types import Hashes
from router.engine.kv_events.wire import EventDecoder

BLOCK = 16
PROMPT = 1000
"""Blocks of a prompt, and of a stored event."""

Row = dict[str, Any]


class Workload:
    """Prompts ``0 .. prompts - 1``; prompt ``i`` is held by replica ``i % replicas``."""

    def __init__(self, replicas: int, held_blocks: int) -> None:
        self.replicas = replicas
        self.prompts = held_blocks // PROMPT
        rng = np.random.default_rng(1)
        self._tokens = rng.integers(0, 1 << 17, PROMPT * BLOCK, dtype=np.uint32)
        self.engine_hashes = rng.integers(0, 1 << 64, (self.prompts, PROMPT), dtype=np.uint64)

    def hashes(self, prompt: int) -> Hashes:
        return hash_blocks(self._tokens, BLOCK, prompt)

    def stored(self, prompt: int, content: int | None = None, blocks: int = PROMPT) -> KvBatch:
        """The beginning of a prompt as its replica reports it, or of another one under the same engine hashes."""
        seed = prompt if content is None else content
        return KvBatch.stored(self.engine_hashes[prompt, :blocks], self._tokens[: blocks * BLOCK], BLOCK, seed=seed)

    def removed(self, prompt: int) -> KvBatch:
        """As an engine evicts a prompt: its tail first, one event for each block."""
        return KvBatch.join(KvBatch.removed(self.engine_hashes[prompt, i : i + 1]) for i in reversed(range(PROMPT)))

    def sample(self, count: int) -> list[int]:
        order: list[int] = np.random.default_rng(2).permutation(self.prompts)[:count].tolist()
        return order


def measure(replicas: int, held_blocks: int, rounds: int) -> Row:
    """One line of the main table."""
    work = Workload(replicas, held_blocks)
    index = PrefixIndex()

    def apply_s(prompt: int, batch: KvBatch) -> float:
        return cpu_s(index.apply, prompt % replicas, batch)

    fill = [apply_s(prompt, work.stored(prompt)) for prompt in range(work.prompts)]
    memory = index.memory_bytes / index.held_blocks_total
    sample = work.sample(rounds)
    match = [wall_s(index.match, work.hashes(prompt)) for prompt in sample]
    remove = [apply_s(prompt, work.removed(prompt)) for prompt in sample]
    store = [apply_s(prompt, work.stored(prompt)) for prompt in reversed(sample)]
    found = index.match(work.hashes(sample[0])).blocks
    if index.held_blocks_total != work.prompts * PROMPT or found[sample[0] % replicas] != PROMPT:
        raise RuntimeError("the index does not hold what was stored")
    dropped_blocks = index.held_blocks(0)
    return {
        "replicas": replicas,
        "held_blocks": held_blocks,
        "fill_blocks_s": PROMPT * len(fill) / sum(fill),
        "longest_store_ms": max(fill) * 1e3,
        "store_blocks_s": rate(store),
        "remove_blocks_s": rate(remove),
        "match_us": microseconds(match),
        "bytes_per_held_block": memory,
        "bytes_per_held_block_shared": shared_memory(replicas, held_blocks),
        "dropped_blocks": dropped_blocks,
        "drop_ms": cpu_s(index.drop, 0) * 1e3,
    }


def shared_memory(replicas: int, held_blocks: int) -> float:
    """Bytes per held block when every replica holds the same prompts, under engine hashes of its own."""
    work, index = Workload(1, held_blocks), PrefixIndex()
    for prompt in range(work.prompts):
        index.apply(prompt % replicas, work.stored(prompt, content=prompt // replicas))
    return index.memory_bytes / index.held_blocks_total


def measure_shared_match(replicas: int, rounds: int) -> Row:
    """Matching one prompt of which every replica holds a different length."""
    work, index = Workload(1, PROMPT * replicas), PrefixIndex()
    lengths = np.linspace(1, PROMPT, replicas).astype(int)
    for slot, length in enumerate(lengths):
        index.apply(slot, work.stored(slot, content=0, blocks=int(length)))
    hashes = work.hashes(0)
    if index.match(hashes).blocks[:replicas].tolist() != lengths.tolist():
        raise RuntimeError("the index does not hold what was stored")
    row: Row = {"replicas": replicas}
    for blocks in (10, 100, PROMPT):
        row[f"match_{blocks}_us"] = microseconds([wall_s(index.match, hashes[:blocks]) for _ in range(rounds)])
    return row


def measure_hash(rounds: int) -> list[Row]:
    rows = []
    for tokens in (1_000, 16_000, 128_000):
        prompt = np.random.default_rng(3).integers(0, 1 << 17, tokens, dtype=np.uint32)
        times = [wall_s(hash_blocks, prompt, BLOCK, 1) for _ in range(rounds)]
        rows.append({"tokens": tokens, "hash_us": microseconds(times)})
    return rows


def ingest(index: PrefixIndex, decoder: EventDecoder, payloads: Sequence[bytes]) -> None:
    index.apply(0, decoder.decode(payloads))


def measure_messages(messages: int) -> list[Row]:
    """vLLM messages of one stored event with 4 blocks, decoded and applied."""
    rng = np.random.default_rng(4)
    rows = []
    for form in ("map (0.24 on)", "array (to 0.23)"):
        payloads = [vllm_message(form, rng) for _ in range(messages)]
        for drained in (1, 16, 256):
            index, decoder, times = PrefixIndex(), EventDecoder("model"), []
            for first in range(0, messages, drained):
                part = payloads[first : first + drained]
                times.append(cpu_s(ingest, index, decoder, part))
            if index.held_blocks_total != 4 * messages:
                raise RuntimeError("the index does not hold what was stored")
            rows.append({"form": form, "messages_at_once": drained, "blocks_s": rate(times, 4 * drained)})
    return rows


def vllm_message(form: str, rng: np.random.Generator) -> bytes:
    event: dict[str, Any] = {
        "block_hashes": rng.integers(0, 1 << 64, 4, dtype=np.uint64).tolist(),
        "parent_block_hash": None,
        "token_ids": rng.integers(0, 1 << 17, 4 * BLOCK).tolist(),
        "block_size": BLOCK,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
        "extra_keys": [None] * 4,
        "group_idx": 0,
        "kv_cache_spec_kind": "full_attention",
    }
    encoded = {"type": "BlockStored", **event} if form.startswith("map") else ["BlockStored", *event.values()]
    return msgspec.msgpack.encode([1.0, [encoded], 0])


def measure_dict(replicas: int, held_blocks: int, rounds: int) -> Row:
    """The same work with Python's own objects; hashing is left out, which an index in Python would pay as well."""
    work = Workload(replicas, held_blocks)
    holders: dict[int, int] = {}
    engines: list[dict[int, int]] = [{} for _ in range(replicas)]

    def store(slot: int, engine_hashes: list[int], hashes: list[int]) -> None:
        own, bit = engines[slot], 1 << slot
        for engine_hash, block in zip(engine_hashes, hashes, strict=True):
            own[engine_hash] = block
            holders[block] = holders.get(block, 0) | bit

    def match(hashes: list[int]) -> dict[int, int]:
        alive, counts = -1, {}
        for length, block in enumerate(hashes):
            left = alive & holders.get(block, 0)
            for slot in range(replicas) if left != alive else ():
                if alive >> slot & 1 and not left >> slot & 1:
                    counts[slot] = length
            if not left:
                return counts
            alive = left
        return counts | {slot: len(hashes) for slot in range(replicas) if alive >> slot & 1}

    before = resident_bytes()
    fill = []
    for prompt in range(work.prompts):
        own, hashes = work.engine_hashes[prompt].tolist(), work.hashes(prompt).tolist()
        fill.append(cpu_s(store, prompt % replicas, own, hashes))
    memory = (resident_bytes() - before) / (work.prompts * PROMPT)
    queries = [work.hashes(prompt).tolist() for prompt in work.sample(rounds)]
    times = [wall_s(match, query) for query in queries]
    return {
        "index": "dict",
        "replicas": replicas,
        "held_blocks": held_blocks,
        "fill_blocks_s": rate(fill),
        "match_us": microseconds(times),
        "bytes_per_held_block": memory,
    }


def measure_dynamo(replicas: int, held_blocks: int, rounds: int) -> Row:
    from dynamo.llm import RadixTree, compute_block_hash_for_seq

    work, tree = Workload(replicas, held_blocks), RadixTree()
    prompt_tokens = np.random.default_rng(3).integers(0, 1 << 17, 16_000).tolist()
    before, fill = resident_bytes(), []
    for prompt in range(work.prompts):
        names, hashes = (work.engine_hashes[prompt] >> np.uint64(1)).tolist(), work.hashes(prompt).tolist()
        blocks = [{"block_hash": name, "tokens_hash": value} for name, value in zip(names, hashes, strict=True)]
        event = {"event_id": prompt, "data": {"stored": {"parent_hash": None, "blocks": blocks}}}
        payload = msgspec.json.encode(event)
        fill.append(cpu_s(tree.apply_event, prompt % replicas, payload))

    def scores(query: list[int]) -> object:
        return tree.find_matches(query).scores

    queries = [work.hashes(prompt).tolist() for prompt in work.sample(rounds)]
    if max(tree.find_matches(queries[0]).scores.values()) != PROMPT:
        raise RuntimeError("Dynamo's tree does not hold what was stored")
    memory = (resident_bytes() - before) / (work.prompts * PROMPT)
    hashed = [wall_s(compute_block_hash_for_seq, prompt_tokens, BLOCK) for _ in range(rounds)]
    return {
        "index": "Dynamo RadixTree",
        "replicas": replicas,
        "held_blocks": held_blocks,
        "fill_blocks_s": rate(fill),
        "match_us": microseconds([wall_s(scores, query) for query in queries]),
        "bytes_per_held_block": memory,
        "hash_16000_tokens_us": microseconds(hashed),
    }


def wall_s(work: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    work(*arguments)
    return time.perf_counter() - started


def cpu_s(work: Callable[..., object], *arguments: object) -> float:
    """CPU time of the whole process: one of the peers works in a thread of its own."""
    started = time.process_time()
    work(*arguments)
    return time.process_time() - started


def rate(times: Sequence[float], blocks: int = PROMPT) -> Row:
    """Blocks per second: the median, and the slowest and the fastest tenth."""
    low, middle, high = np.percentile(times, [10, 50, 90])
    return {"median": blocks / middle, "p10": blocks / high, "p90": blocks / low}


def microseconds(times: Sequence[float]) -> Row:
    middle, late = np.percentile(times, [50, 99]) * 1e6
    return {"p50": middle, "p99": late}


def resident_bytes() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def show(title: str, rows: Sequence[Row]) -> None:
    """A Markdown table."""
    names = list(rows[0])
    lines = [[cell(row.get(name)) for name in names] for row in rows]
    widths = [max(len(name), *(len(line[i]) for line in lines)) for i, name in enumerate(names)]
    print(f"\n{title}\n")
    for line in (names, ["-" * (width - 1) + ":" for width in widths], *lines):
        print("| " + " | ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) + " |", flush=True)


def cell(value: Any) -> str:
    if isinstance(value, dict) and "median" in value:
        return f"{value['median'] / 1e6:.2f} M ({value['p10'] / 1e6:.2f}-{value['p90'] / 1e6:.2f})"
    if isinstance(value, dict):
        return f"{value['p50']:.1f} (p99 {value['p99']:.1f})"
    if isinstance(value, float):
        return f"{value / 1e6:.2f} M" if value >= 1e5 else f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the prefix index.")
    parser.add_argument("--quick", action="store_true", help="about 20 seconds: fewer sizes and rounds")
    parser.add_argument("--json", metavar="FILE", help="write all figures to FILE")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    rounds = 50 if options.quick else 200
    sizes = (10**5, 10**6) if options.quick else (10**5, 10**6, 10**7)
    fleets = (64,) if options.quick else (8, 64, 512)

    measure(8, 10**4, 5)
    results: dict[str, Any] = {
        "machine": {"processor": platform.processor() or platform.machine(), "python": platform.python_version()},
        "index": [measure(fleet, held, min(rounds, held // PROMPT)) for held in sizes for fleet in fleets],
        "shared_match": [measure_shared_match(fleet, rounds * 5) for fleet in (8, 64, 512)],
        "hash": measure_hash(rounds * 5),
        "messages": measure_messages(4_096 if options.quick else 32_768),
        "peers": [measure_dict(64, held, min(rounds, held // PROMPT)) for held in sizes[:2]],
    }
    if importlib.util.find_spec("dynamo"):
        results["peers"] += [measure_dynamo(64, held, min(rounds, held // PROMPT)) for held in sizes[:2]]
    show("Index: 1,000-block prompts, each held by one replica", results["index"])
    show("Match: one prompt, every replica holds another length of it", results["shared_match"])
    show("Hash: tokens in a NumPy array, blocks of 16", results["hash"])
    show("vLLM messages of 4 blocks, decoded and stored", results["messages"])
    show("Beside it: fill, match of 1,000 blocks", results["peers"])
    if options.json:
        with open(options.json, "w") as file:
            json.dump(results, file, indent=1)


if __name__ == "__main__":
    main()
