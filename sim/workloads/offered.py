"""How much work a workload is for a replica that never computes a token twice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from sim.engine.config import EngineConfig
from sim.engine.step_time import PS_PER_S, Work
from sim.workloads.prefixes import PrefixTree
from sim.workloads.program import Context, Part, Program, Step


@dataclass(slots=True, frozen=True)
class OfferedWork:
    programs: int
    requests: int
    prompt_tokens: int
    prefill_tokens: int
    """Prompt tokens that no earlier prompt or answer began with."""
    output_tokens: int
    busy_s: float
    """What one replica needs for all of it when it always has a full batch."""
    prefill: Work
    """Of the prompts' new tokens."""
    prefill_steps: int
    """When no two prompts share one."""
    decode: Work
    """Of the answers after their first tokens."""
    held_tokens: float
    """KV memory that one decoding sequence takes up, averaged over all output tokens."""

    @property
    def hit_rate(self) -> float:
        """Of an unbounded cache that all replicas share, in tokens."""
        return 1.0 - self.prefill_tokens / self.prompt_tokens

    def rate_at(self, load: float, replicas: int) -> float:
        """Programs per second that keep ``replicas`` replicas busy for a share ``load`` of the time."""
        if load <= 0 or replicas < 1:
            raise ValueError(f"load must be above 0 and replicas at least 1, not {load} and {replicas}")
        return load * replicas * self.programs / self.busy_s

    def load_of(self, duration_s: float, replicas: int) -> float:
        """The load when all of it arrives within ``duration_s``."""
        return self.busy_s / (duration_s * replicas)


def offered_work(programs: Sequence[Program], engine: EngineConfig) -> OfferedWork:
    """Work of ``programs`` under perfect caching: each distinct token is prefilled once, answers are decoded.

    Reading the weights costs a step its fixed time, which its batch shares. A batch decodes as many sequences as the KV
    memory holds, siblings sharing their prompt and prefixes that several programs have taking no room; prefill rides
    along in the same steps. Raises ValueError when there is no program, or a step does not fit the engine.
    """
    if not programs:
        raise ValueError("an empty workload offers no work")
    tally = _Tally(engine)
    for program in programs:
        for step in program.steps:
            tally.add(program, step)
    held = _held_while_decoding_tokens(programs)
    batch = max(1.0, min(engine.max_num_seqs, engine.usable_blocks * engine.block_size_tokens / held))
    steps = max(tally.decoded_tokens / batch, tally.prefill_tokens / engine.max_num_batched_tokens)
    times = engine.step_time
    once_ps = times.duration_ps(tally.prefill) + times.duration_ps(tally.decode) - times.fixed_ps
    busy_ps = once_ps + (steps - 1) * times.fixed_ps
    return OfferedWork(
        programs=len(programs),
        requests=sum(len(program.steps) for program in programs),
        prompt_tokens=tally.prompt_tokens,
        prefill_tokens=tally.prefill_tokens,
        output_tokens=tally.output_tokens,
        busy_s=busy_ps / PS_PER_S,
        prefill=tally.prefill,
        prefill_steps=tally.prefill_steps,
        decode=tally.decode,
        held_tokens=held,
    )


@dataclass(slots=True)
class _Tally:
    engine: EngineConfig
    prefill: Work = field(default_factory=Work)
    decode: Work = field(default_factory=Work)
    prefill_steps: int = 0
    prompt_tokens: int = 0
    prefill_tokens: int = 0
    output_tokens: int = 0
    decoded_tokens: int = 0
    """Output tokens after the first, which prefill brings forth."""
    seen: PrefixTree = field(default_factory=PrefixTree)

    def add(self, program: Program, step: Step) -> None:
        prompt_tokens, output_tokens = step.prompt_tokens, step.output_tokens
        if prompt_tokens + output_tokens > self.engine.max_model_len_tokens:
            raise ValueError(
                f"step {step.name} of {program.id} needs {prompt_tokens + output_tokens} tokens and the engine takes "
                f"{self.engine.max_model_len_tokens}: choose another profile or leave such steps out"
            )
        new_tokens = self.seen.add(step.parts)
        self.seen.add((*step.parts, Part(Context.ANSWER, step.answer_stream, output_tokens)))
        self.prompt_tokens += prompt_tokens
        self.prefill_tokens += new_tokens
        self.output_tokens += output_tokens
        for start in range(prompt_tokens - new_tokens, prompt_tokens, self.engine.max_num_batched_tokens):
            self.prefill.add(min(self.engine.max_num_batched_tokens, prompt_tokens - start), start)
            self.prefill_steps += 1
        decoded = output_tokens - 1
        self.decoded_tokens += decoded
        self.decode.decode_seqs += decoded
        self.decode.context_tokens += decoded * prompt_tokens + decoded * (decoded + 1) // 2


def _held_while_decoding_tokens(programs: Iterable[Program]) -> float:
    """KV memory that one decoding sequence takes up, averaged over all output tokens."""
    public = _public_streams(programs)
    held = outputs = 0.0
    for program in programs:
        for _, siblings in groupby(program.steps, key=lambda step: step.after):
            together, private = list(siblings), PrefixTree()
            prompts = sum(private.add(part for part in s.parts if part.stream not in public) for s in together)
            for step in together:
                held += step.output_tokens * (prompts / len(together) + step.output_tokens / 2)
                outputs += step.output_tokens
    return held / outputs


def _public_streams(programs: Iterable[Program]) -> set[int]:
    """Streams that prompts of several programs hold."""
    owners: dict[int, str] = {}
    public = set()
    for program in programs:
        for stream in {part.stream for step in program.steps for part in step.parts}:
            if owners.setdefault(stream, program.id) != program.id:
                public.add(stream)
    return public
