"""What each step of known programs costs on a given engine: work for the replica, and the path to the program's end.

Every token is computed once: a prompt's tokens that an earlier prompt or answer began with are cached.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sim.engine import EngineConfig, Work
from sim.engine.step_time import PS_PER_S
from sim.workloads.prefixes import PrefixTree
from sim.workloads.program import Context, Part, Program, Step


@dataclass(slots=True, frozen=True)
class StepCost:
    work_s: float
    """What it takes of a replica that has a full batch."""
    rank_s: float
    """HEFT's upward rank: from the step's start to the program's end on the longest path, each step alone on an idle
    replica, tool waits included (Topcuoglu, Hariri, Wu, 2002)."""


def step_costs(programs: Iterable[Program], engine: EngineConfig) -> dict[str, dict[str, StepCost]]:
    """By program and step."""
    seen = PrefixTree()
    return {program.id: _program_costs(program, engine, seen) for program in programs}


def _program_costs(program: Program, engine: EngineConfig, seen: PrefixTree) -> dict[str, StepCost]:
    new_tokens = {step.name: _new_tokens(step, seen) for step in program.steps}
    after_s = dict.fromkeys(new_tokens, 0.0)
    costs = {}
    for step in reversed(program.steps):
        prefill_ps = _prefill_ps(step, new_tokens[step.name], engine)
        rank_s = (prefill_ps + _decode_alone_ps(step, engine)) / PS_PER_S + after_s[step.name]
        costs[step.name] = StepCost((prefill_ps + _decode_share_ps(step, engine)) / PS_PER_S, rank_s)
        for name in step.after:
            after_s[name] = max(after_s[name], step.wait_s + rank_s)
    return costs


def _new_tokens(step: Step, seen: PrefixTree) -> int:
    new_tokens = seen.add(step.parts)
    seen.add((*step.parts, Part(Context.ANSWER, step.answer_stream, step.output_tokens)))
    return new_tokens


def _prefill_ps(step: Step, new_tokens: int, engine: EngineConfig) -> int:
    work = Work()
    work.add(max(2, new_tokens), step.prompt_tokens - new_tokens)
    return engine.step_time.duration_ps(work) - engine.step_time.fixed_ps


def _decode_alone_ps(step: Step, engine: EngineConfig) -> int:
    return _decode_marginal_ps(step, engine) + step.output_tokens * engine.step_time.fixed_ps


def _decode_share_ps(step: Step, engine: EngineConfig) -> float:
    """Its share of a step's fixed time is that of the KV memory that it fills."""
    context_tokens = step.prompt_tokens + step.output_tokens / 2
    share = context_tokens / (engine.usable_blocks * engine.block_size_tokens)
    return _decode_marginal_ps(step, engine) + share * step.output_tokens * engine.step_time.fixed_ps


def _decode_marginal_ps(step: Step, engine: EngineConfig) -> int:
    """What its output tokens add to the steps that they are in."""
    count = step.output_tokens
    read_tokens = count * step.prompt_tokens + count * (count + 1) // 2
    return count * engine.step_time.decode_seq_ps + read_tokens * engine.step_time.context_token_ps
