"""Programs on real vLLM, scheduled or not: the same agents in a closed loop, over and over, in turns.

    python tests/real/compare_programs.py [--in-flight N] [--rounds N] [--ways WAY,WAY...] [--seed N] [--json FILE]

Two replicas of a model with 32 M parameters, 16,384 tokens of KV memory each and priority scheduling, `weft serve` in
front of them. Every run begins with empty caches and a router that has seen nothing. Ratios are those of one round, to
the first way; tables show the median over the rounds, and in brackets the least and the greatest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean, median
from tempfile import mkdtemp
from typing import Any

from program_loop import Served, serve
from program_mix import CONVERSATION_CALLS, Mix, longest_context_tokens, make_mix
from real_traces import TRACE, read_sessions
from replicas import BLOCK_SIZE_TOKENS, Replica, model_directory, running
from tokenizers import Tokenizer
from weft_process import Weft

MODEL = "medium"
KV_TOKENS = 16_384
MAX_MODEL_LEN_TOKENS = 12_288
_RESERVED_TOKENS = 200
"""Of the longest prompt, for its answer."""


@dataclass(slots=True, frozen=True)
class Way:
    """How programs are treated."""

    queue: dict[str, str]
    follows: bool = True
    hinted: bool = True

    @property
    def config(self) -> dict[str, Any]:
        return {"queue": self.queue, "programs": {"enabled": self.follows}}


GATE = {"gate": "step-budget"}
ORDER = {"order": "critical-path"}
ADMISSION = {"admission": "working-set"}
WAYS = {
    "requests": Way({}, follows=False),
    "programs": Way(GATE | ORDER | ADMISSION),
    "unhinted": Way(GATE | ORDER | ADMISSION, hinted=False),
    "gate": Way(GATE),
    "order": Way(GATE | ORDER),
    "admission": Way(ADMISSION),
}

MEASURES: dict[str, Callable[[Served], float]] = {
    "total s": lambda served: served.total_s,
    "mean completion s": lambda served: served.mean_s,
    "p95 completion s": lambda served: served.p95_s,
    "hit rate": lambda served: served.hit_rate,
}


@contextmanager
def two_replicas(logs: Path) -> Iterator[list[Replica]]:
    options = ("--scheduling-policy", "priority")
    blocks = KV_TOKENS // BLOCK_SIZE_TOKENS + 1
    replicas = [Replica(MODEL, blocks, MAX_MODEL_LEN_TOKENS, logs / f"{MODEL}-{n}.log", options) for n in range(2)]
    yield from running(replicas)


def mix_of(seed: int) -> Mix:
    tokenizer = Tokenizer.from_file(str(model_directory(MODEL) / "tokenizer.json"))
    sessions = read_sessions(TRACE, tokenizer, MAX_MODEL_LEN_TOKENS - _RESERVED_TOKENS)
    long_enough = [turns for turns in sessions if len(turns) >= CONVERSATION_CALLS // 2]
    return make_mix(seed, long_enough, MAX_MODEL_LEN_TOKENS)


def run(way: Way, mix: Mix, replicas: Sequence[Replica], in_flight: int, log: Path) -> Served:
    for replica in replicas:
        replica.empty_cache()
    options = ("--tokenizer", str(model_directory(MODEL)))
    with Weft(replicas, log, *options, config=way.config) as router:
        return asyncio.run(serve(mix, router.url, MODEL, in_flight, way.hinted))


def table(rounds: Sequence[dict[str, Served]]) -> str:
    first = next(iter(rounds[0]))
    lines = [f"| {' | '.join(('', *MEASURES))} |", f"|---|{'--:|' * len(MEASURES)}"]
    for name in rounds[0]:
        cells = [spread([measure(each[name]) for each in rounds]) for measure in MEASURES.values()]
        lines.append(f"| {' | '.join((name, *cells))} |")
        if name != first:
            ratios = [[measure(each[name]) / measure(each[first]) for each in rounds] for measure in MEASURES.values()]
            lines.append(f"| {' | '.join((f'{name} / {first}', *map(spread, ratios)))} |")
    return "\n".join(lines)


def spread(values: Sequence[float]) -> str:
    def text(value: float) -> str:
        return f"{value:.1f}" if value >= 10 else f"{value:.2f}"

    return f"{text(median(values))} ({text(min(values))}-{text(max(values))})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--in-flight", type=int, default=16, help="programs at a time")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", default="requests,programs", help=f"of {', '.join(WAYS)}")
    parser.add_argument("--seed", type=int, default=1, help="of the first round; each has a mix of its own")
    parser.add_argument("--same", action="store_true", help="the first round's mix in all of them")
    parser.add_argument("--json", type=Path, help="where every call is written to")
    arguments = parser.parse_args()
    names = arguments.ways.split(",")
    rounds: list[dict[str, Served]] = []
    logs = Path(mkdtemp(prefix="weft-programs-"))
    with two_replicas(logs) as replicas:
        for number in range(arguments.rounds):
            mix = mix_of(arguments.seed + (0 if arguments.same else number))
            contexts_tokens = mean(map(longest_context_tokens, mix.programs)) * arguments.in_flight
            times = contexts_tokens / (len(replicas) * KV_TOKENS)
            print(f"round {number}: contexts in flight need {times:.2f} times the caches", file=sys.stderr, flush=True)
            rounds.append({})
            for name in names if number % 2 == 0 else reversed(names):
                served = run(WAYS[name], mix, replicas, arguments.in_flight, logs / f"weft-{name}.log")
                rounds[-1][name] = served
                figures = ", ".join(f"{what} {measure(served):.2f}" for what, measure in MEASURES.items())
                print(f"  {name}: {figures}", file=sys.stderr, flush=True)
                if arguments.json:
                    arguments.json.write_text(json.dumps([{n: asdict(s) for n, s in each.items()} for each in rounds]))
    print(table([{name: each[name] for name in names} for each in rounds]))


if __name__ == "__main__":
    main()
