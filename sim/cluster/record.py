"""What a run leaves behind: one record for each call, program and replica. All times are seconds of virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field

from router.core.types import Role
from sim.workloads.program import Program, Step


@dataclass(slots=True)
class PrefillRecord:
    """What became of a prompt that one replica computed for another one."""

    replica: int
    scheduled_s: float = -1.0
    ended_s: float = -1.0
    asked_s: float = -1.0
    """When the replica that answers had room for the prompt's KV blocks; negative before."""
    transfer_s: float = 0.0
    """From then until they were there."""
    fetched_tokens: int = 0
    """Of the prompt, in those blocks."""
    failed: bool = False
    """The blocks did not come: the replica that answers computed the prompt itself."""


@dataclass(slots=True)
class CallRecord:
    """One LLM call, from the moment the client sent it."""

    program: Program
    step: Step
    sent_s: float
    router: int = -1
    replica: int = -1
    """That answered it."""
    expected_cached_tokens: int = 0
    """What the router counted on."""
    dispatched_s: float = -1.0
    """When the router sent it on; negative before. What it spent in the router's queue ends here."""
    scheduled_s: float = 0.0
    """When the engine, or the first of two, began to compute it."""
    first_token_s: float = -1.0
    ended_s: float = 0.0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """In the cache of the replica that computed the prompt."""
    output_tokens: int = 0
    recomputed_tokens: int = 0
    """Prompt tokens computed although some replica had computed them before."""
    refusals: int = 0
    prefill: PrefillRecord | None = None
    """None where the replica that answered computed the prompt."""

    @property
    def computing_replica(self) -> int:
        """That computed the prompt."""
        return self.replica if self.prefill is None else self.prefill.replica

    @property
    def ttft_s(self) -> float:
        return self.first_token_s - self.sent_s

    @property
    def e2e_s(self) -> float:
        return self.ended_s - self.sent_s

    @property
    def queue_wait_s(self) -> float:
        """On the way, in the router's queue and in the engine's."""
        return self.scheduled_s - self.sent_s

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first; None when there is but one."""
        if self.output_tokens < 2:
            return None
        return (self.ended_s - self.first_token_s) / (self.output_tokens - 1)


@dataclass(slots=True, frozen=True)
class ProgramRecord:
    program: Program
    started_s: float
    """Its arrival; in a closed loop, when its turn came."""
    ended_s: float

    @property
    def completion_s(self) -> float:
        return self.ended_s - self.started_s


@dataclass(slots=True, frozen=True)
class ReplicaRecord:
    busy_s: float
    computed_tokens: int
    """Prompt and output tokens, those computed again after a preemption included."""
    preemptions: int
    mean_kv_usage: float
    """Share of KV blocks held by running requests, 0..1, sampled at every load report while programs ran."""
    role: Role = Role.BOTH
    expired_leases: int = 0
    """Prompts computed for other replicas that did not fetch them in time."""


@dataclass(slots=True)
class RouterCost:
    """CPU time of ``submit`` and the ``poll`` after it. Differs from run to run, unlike all else here."""

    decisions: int = 0
    cpu_ns: int = 0

    @property
    def decision_us(self) -> float:
        return self.cpu_ns / 1e3 / self.decisions if self.decisions else 0.0


@dataclass(slots=True)
class Run:
    """Calls in the order in which they ended, programs likewise."""

    calls: list[CallRecord] = field(default_factory=list)
    programs: list[ProgramRecord] = field(default_factory=list)
    replicas: list[ReplicaRecord] = field(default_factory=list)
    lost_kv_batches: int = 0
    lost_reports: int = 0
    router_cost: RouterCost = field(default_factory=RouterCost)

    @property
    def makespan_s(self) -> float:
        """Until the last program ended."""
        return max((program.ended_s for program in self.programs), default=0.0)
