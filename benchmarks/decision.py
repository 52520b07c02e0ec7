"""CPU per routed request: reading the body, template, tokens, block hashes, prefix match, scores.

    python benchmarks/decision.py [--quick] [--json FILE] [--tokenizer DIR]

Each request is one of a conversation with a growing prompt, routed over eight replicas that report KV events. Three
kinds: a first turn, all of it new; a tenth turn that adds an answer and a message of 512 tokens together (a tenth of
the prompt when that is less); and the tenth of ten turns that are equally long. Every conversation has text of its
own, so nothing is remembered but its earlier turns. CPU is that of the whole process, its threads included.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from load.machine import describe

import router.core.router
from router.core.index.batch import KvBatch
from router.core.index.hashing import chain_seed
from router.core.prefix import chain_of
from router.core.router import Router
from router.core.types import Health, Outcome, Prompt, ReplicaSpec, Request, Ticket, Usage
from router.engine.api import read_body
from router.engine.prompts.local import LocalPrompts
from router.engine.prompts.text import BYTES_PER_TOKEN, TextPrompts
from router.profiles import make_profiles
from sim.model import MODEL_DIRECTORY

SIZES_TOKENS = (256, 1_000, 8_000, 32_000, 128_000)
KINDS = ("first turn", "tenth turn", "tenth of equal turns")
STAGES = ("body", "template", "tokens", "hashes", "match", "scores")
REPLICAS = 8
BLOCK_SIZE_TOKENS = 16
NEW_TOKENS = 512
TURNS = 10
PATH = "/v1/chat/completions"
NEVER_ASIDE = 1 << 40
WORDS = sorted(set(re.findall(r"[a-z]{3,9}", Path(router.core.router.__file__).read_text(encoding="utf-8"))))

T = TypeVar("T")


@dataclass(frozen=True)
class Case:
    mode: str
    tokens: int
    """Prompt length of the measured request."""
    kind: str


class Bench:
    """Everything that a data plane does for a request before it opens a connection to the replica."""

    def __init__(self, mode: str, tokenizer: Path) -> None:
        local = LocalPrompts(tokenizer, inline_chars=NEVER_ASIDE)
        self.prompts = local if mode == "local" else TextPrompts()
        sample = _text(random.Random(0), 20_000)
        self.chars_per_token = (
            len(sample) / len(local.tokenizer.encode(sample).ids) if mode == "local" else BYTES_PER_TOKEN
        )
        self.router = Router(make_profiles({}), seed=1)
        self.now = 0.0
        self._stored_blocks = 1
        for number in range(REPLICAS):
            name = f"replica-{number}"
            spec = ReplicaSpec(
                name, f"http://{name}", models=("m",), reports_events=True, block_size_tokens=BLOCK_SIZE_TOKENS
            )
            self.router.on_replica(spec, self.now)
            self.router.on_health(name, Health.HEALTHY, self.now)

    def decide(self, body: bytes) -> tuple[Ticket, dict[str, float]]:
        """The routed request, and the CPU seconds that each stage took.

        Stages inside others are run once more by themselves; none of them remembers anything.
        """
        api, body_s = _timed(lambda: read_body(PATH, body))
        template_s = 0.0
        if isinstance(self.prompts, LocalPrompts):
            template_s = _timed(lambda: self.prompts.text_of(api))[1]
        prompt, make_s = _timed(lambda: self.prompts.make(api))
        if not isinstance(prompt, Prompt):
            raise SystemExit(f"the tokenizer's template cannot be used: {self.prompts.skipped}")
        self.now += 0.01
        request = Request("id", "m", prompt, max_tokens=api.max_tokens)
        ticket, decide_s = _timed(lambda: self._route(request))
        hashes_s, match_s = self._inside(prompt)
        stages = (body_s, template_s, make_s - template_s, hashes_s, match_s, decide_s - hashes_s - match_s)
        return ticket, {**dict(zip(STAGES, stages, strict=True)), "total": body_s + make_s + decide_s}

    def serve(self, ticket: Ticket) -> None:
        """The chosen replica answers, and reports the prompt's blocks."""
        prompt, decision = ticket.request.prompt, ticket.decision
        if prompt is None or decision is None:
            raise SystemExit(f"not routed: {ticket.refusal}")
        self.router.on_response_start(ticket, self.now)
        self.router.on_response_end(ticket, Usage(len(prompt), 0, 1), Outcome.OK, self.now)
        blocks = len(prompt) // BLOCK_SIZE_TOKENS
        names = np.arange(self._stored_blocks, self._stored_blocks + blocks, dtype=np.uint64)
        self._stored_blocks += blocks
        tokens = prompt.token_ids[: blocks * BLOCK_SIZE_TOKENS]
        seed = chain_seed("m", exact=prompt.exact)
        batch = KvBatch.stored(names, tokens, block_size_tokens=BLOCK_SIZE_TOKENS, seed=seed)
        self.router.on_kv_events(decision.replica.name, batch, self.now)

    def _route(self, request: Request) -> Ticket:
        ticket = self.router.submit(request, self.now)
        self.router.poll(self.now)
        return ticket

    def _inside(self, prompt: Prompt) -> tuple[float, float]:
        """CPU seconds of hashing the prompt's blocks, and of finding who holds them."""
        model = self.router.fleet.resolve("m")
        if model is None:
            raise SystemExit("the model is not served")
        chain, hashes_s = _timed(lambda: chain_of(prompt, model, "", self.router.fleet))
        return hashes_s, _timed(lambda: self.router.index.match(chain.hashes[BLOCK_SIZE_TOKENS]))[1]


def main() -> None:
    arguments = _parse()
    rounds = 5 if arguments.quick else 25
    record: dict[str, Any] = {"when": time.strftime("%F %T"), "machine": describe(), "rounds": rounds, "cases": []}
    print(f"CPU per request in µs: median of {rounds} with 10th and 90th percentile, and medians of its stages\n")
    columns = "".join(f"{stage:>9}" for stage in STAGES)
    print(f"{'mode':<6}{'tokens':>8}  {'request':<21}{'CPU':>9}{'10th':>9}{'90th':>9}  {columns}")
    for mode in ("text", "local"):
        for tokens in SIZES_TOKENS[: -1 if arguments.quick else None]:
            for kind in KINDS:
                result = measure(Case(mode, tokens, kind), arguments.tokenizer, rounds)
                record["cases"].append({"mode": mode, "tokens": tokens, "kind": kind, **result})
                stages = "".join(f"{result['stages_us'][stage]:>9,.0f}" for stage in STAGES)
                spread = f"{result['p10_us']:>9,.0f}{result['p90_us']:>9,.0f}"
                print(f"{mode:<6}{tokens:>8,}  {kind:<21}{result['cpu_us']:>9,.0f}{spread}  {stages}", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1), encoding="utf-8")


def measure(case: Case, tokenizer: Path, rounds: int) -> dict[str, Any]:
    """CPU in µs of one case: its median and spread, and the median of each stage."""
    bench = Bench(case.mode, tokenizer)
    spent: list[dict[str, float]] = []
    for number in range(rounds + 1):
        stages: dict[str, float] = {}
        for body in _bodies(case, random.Random(number), bench.chars_per_token):
            ticket, stages = bench.decide(body)
            bench.serve(ticket)
        spent.append(stages)
    del spent[0]
    totals_us = sorted(each["total"] * 1e6 for each in spent)
    return {
        "cpu_us": statistics.median(totals_us),
        "p10_us": totals_us[len(totals_us) // 10],
        "p90_us": totals_us[-1 - len(totals_us) // 10],
        "stages_us": {stage: statistics.median(each[stage] for each in spent) * 1e6 for stage in STAGES},
    }


def _bodies(case: Case, words: random.Random, chars_per_token: float) -> Iterator[bytes]:
    """The requests of one conversation; the last one is measured."""
    turns = 1 if case.kind == "first turn" else TURNS
    new_tokens = case.tokens // TURNS
    if case.kind == "tenth turn":
        new_tokens = min(NEW_TOKENS, new_tokens)
    first_tokens = case.tokens - (turns - 1) * new_tokens
    new_chars, first_chars = int(new_tokens * chars_per_token), int(first_tokens * chars_per_token)
    messages = [
        {"role": "system", "content": _text(words, first_chars // 2)},
        {"role": "user", "content": _text(words, first_chars // 2)},
    ]
    for turn in range(turns):
        if turn:
            messages.append({"role": "assistant", "content": _text(words, new_chars // 2)})
            messages.append({"role": "user", "content": _text(words, new_chars // 2)})
        yield json.dumps({"model": "m", "messages": messages, "max_tokens": 500, "stream": True}).encode()


def _text(words: random.Random, chars: int) -> str:
    return " ".join(words.choices(WORDS, k=chars // 4))[:chars]


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """What ``work`` returns, and its CPU seconds over all threads."""
    started_s = time.process_time()
    result = work()
    return result, time.process_time() - started_s


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="5 rounds instead of 25, up to 32k tokens")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to FILE as well")
    parser.add_argument("--tokenizer", type=Path, default=MODEL_DIRECTORY, metavar="DIR", help="another model's files")
    return parser.parse_args()


if __name__ == "__main__":
    main()
