"""The engine model and a real replica of the same size, given the same requests, find the same tokens cached."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
from engine_mirror import VOCABULARY, Asked, Talk, ask, ask_together, mirror
from replicas import BLOCK_SIZE_TOKENS, Replica, running

from sim.engine import EngineConfig, Policy, StepTime

BLOCKS = 301
MAX_MODEL_LEN_TOKENS = 2048
MAX_NUM_BATCHED_TOKENS = 512
MAX_NUM_SEQS = 6
TALKS = 16
"""Together they grow to about three times what the cache holds."""
SEEDS = range(3)


def config(policy: Policy) -> EngineConfig:
    return EngineConfig(
        StepTime(1, 1, 1, 1, 1),
        num_blocks=BLOCKS,
        block_size_tokens=BLOCK_SIZE_TOKENS,
        max_num_batched_tokens=MAX_NUM_BATCHED_TOKENS,
        max_num_seqs=MAX_NUM_SEQS,
        max_model_len_tokens=MAX_MODEL_LEN_TOKENS,
        policy=policy,
    )


def options(policy: Policy) -> tuple[str, ...]:
    limits = ("--max-num-seqs", str(MAX_NUM_SEQS), "--max-num-batched-tokens", str(MAX_NUM_BATCHED_TOKENS))
    return (*limits, "--scheduling-policy", policy)


@pytest.fixture(scope="module")
def small_caches(prepared: None, logs) -> Iterator[dict[Policy, Replica]]:
    """One real replica of each scheduling policy."""
    made = [
        Replica("tiny", BLOCKS, MAX_MODEL_LEN_TOKENS, logs / f"mirror-{policy}.log", options(policy))
        for policy in Policy
    ]
    for replicas in running(made):
        yield dict(zip(Policy, replicas, strict=True))


@pytest.fixture
def replica(small_caches: dict[Policy, Replica], policy: Policy) -> Replica:
    found = small_caches[policy]
    found.reset_prefix_cache()
    return found


def talks(rng: Random) -> list[Talk]:
    """Conversations, of which each four begin alike."""
    heads = [rng.choices(VOCABULARY, k=rng.randrange(100, 300)) for _ in range(TALKS // 4)]
    return [Talk(rng, list(heads[number % len(heads)])) for number in range(TALKS)]


def next_of(rng: Random, talk: Talk, policy: Policy, longest_answer: int = 40) -> Asked:
    """A talk that has become long begins afresh."""
    if len(talk.tokens) > 900:
        talk.tokens = talk.tokens[:100]
    priority = rng.choice((0, 0, 1, -1, 5)) if policy is Policy.PRIORITY else 0
    return talk.next(rng.randrange(1, 200), rng.randrange(1, longest_answer), priority)


def equal(groups: list[list[Asked]], found: list[int]) -> int:
    real = [asked.cached_tokens for group in groups for asked in group]
    for number, (there, here) in enumerate(zip(real, found, strict=True)):
        if there != here:
            print(f"request {number}: vLLM found {there} tokens, the engine model {here}")
    return sum(there == here for there, here in zip(real, found, strict=True))


def summary(groups: list[list[Asked]], same: int, engine) -> str:
    asked = [each for group in groups for each in group]
    prompts, cached = sum(len(each.prompt) for each in asked), sum(each.cached_tokens for each in asked)
    distinct = {tuple(each.prompt[:end]) for each in asked for end in range(16, len(each.prompt) + 1, 16)}
    return (
        f"{same} of {len(asked)} equal; {prompts} prompt tokens, {cached / prompts:.1%} cached; "
        f"{len(distinct)} different blocks through {BLOCKS - 1}; {engine.preemptions} preemptions"
    )


@pytest.mark.parametrize("policy", [Policy.FCFS])
@pytest.mark.parametrize("seed", SEEDS)
async def test_one_at_a_time(replica, http, figure, policy, seed) -> None:
    rng = Random(seed)
    open_talks, groups = talks(rng), []
    for _ in range(120):
        talk = rng.choice(open_talks)
        asked = next_of(rng, talk, policy)
        await ask(http, replica, asked)
        talk.heard(asked)
        groups.append([asked])
    found, engine = mirror(config(policy), groups)
    same = equal(groups, found)
    figure(summary(groups, same, engine))
    assert same >= 0.99 * len(found)


@pytest.mark.parametrize("policy", list(Policy))
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("longest_answer", [40, 200], ids=["short-answers", "long-answers"])
async def test_many_at_once(replica, http, figure, policy, seed, longest_answer) -> None:
    """Groups larger than a batch wait in a paused engine, so that what is scheduled does not hang on the clock.

    Long answers grow until blocks run out, and requests are preempted.
    """
    rng = Random(f"together-{seed}")
    open_talks, groups = talks(rng), []
    for _ in range(20):
        chosen = rng.sample(open_talks, rng.randrange(4, 13))
        group = [next_of(rng, talk, policy, longest_answer) for talk in chosen]
        await ask_together(http, replica, group)
        for talk, asked in zip(chosen, group, strict=True):
            talk.heard(asked)
        groups.append(group)
    found, engine = mirror(config(policy), groups)
    same = equal(groups, found)
    figure(summary(groups, same, engine))
    assert same >= 0.99 * len(found)
