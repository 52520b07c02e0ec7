"""Small clusters and programs for the tests of the simulated cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from engine_world import STEP_TIME
from hypothesis import strategies as st

from router.config import ProfileConfig
from router.core.router import Router
from router.profiles import make_profiles
from sim.cluster import Cluster, ClusterConfig, Run
from sim.engine import EngineConfig, Policy
from sim.workloads.program import Context, Part, Program, Step

ENGINE = EngineConfig(
    STEP_TIME,
    num_blocks=513,
    block_size_tokens=4,
    max_num_batched_tokens=64,
    max_num_seqs=8,
    max_model_len_tokens=512,
)
CONFIG = ClusterConfig(ENGINE, replicas=2)


def routers(profile: str = "default", **scorers: float) -> Callable[[int], Router]:
    """Routers with a shipped profile, or with a profile of these scorers and weights."""
    configured = {}
    if scorers:
        rated = [{"name": name.replace("_", "-"), "weight": weight} for name, weight in scorers.items()]
        configured[profile] = ProfileConfig.model_validate({"scorers": rated})
    return lambda number: Router(make_profiles(configured, profile), seed=number)


def serve(programs: Sequence[Program], config: ClusterConfig = CONFIG, profile: str = "default", seed: int = 0) -> Run:
    return Cluster(config, routers(profile), seed=seed).run(programs)


def part(stream: int, tokens: int, offset: int = 0, context: Context = Context.USER) -> Part:
    return Part(context, stream, tokens, offset)


def one_call(name: str, *parts: Part, arrival_s: float = 0.0, output_tokens: int = 4, tenant: str = "") -> Program:
    step = Step("only", parts, output_tokens, answer_stream=hash_of(name))
    return Program(name, "test", arrival_s, (step,), tenant)


def hash_of(name: str) -> int:
    """A stream of its own for each name."""
    return int.from_bytes(name.encode()[-6:], "big") + (1 << 50)


@st.composite
def workloads(draw: st.DrawFn) -> list[Program]:
    """Programs of up to five steps; prompts share trunks, and repeat the answers that they follow."""
    return [_program(draw, number) for number in range(draw(st.integers(1, 8)))]


def _program(draw: st.DrawFn, number: int) -> Program:
    steps: list[Step] = []
    trunk = part(draw(st.integers(0, 1)), draw(st.integers(1, 120)))
    for position in range(draw(st.integers(1, 5))):
        before = [step for step in steps if draw(st.booleans())]
        answers = tuple(part(step.answer_stream, step.output_tokens, context=Context.ANSWER) for step in before)
        own = part(1000 + 10 * number + position, draw(st.integers(1, 40)))
        steps.append(
            Step(
                f"s{position}",
                (trunk, *answers, own),
                draw(st.integers(1, 60)),
                answer_stream=2000 + 10 * number + position,
                after=tuple(step.name for step in before),
                wait_s=draw(st.sampled_from([0.0, 0.01, 0.5])),
            )
        )
    return Program(f"p{number}", "test", draw(st.sampled_from([0.0, 0.1, 0.13])), tuple(steps))


@st.composite
def configs(draw: st.DrawFn) -> ClusterConfig:
    engine = replace(
        ENGINE,
        num_blocks=draw(st.sampled_from([129, 129, 513])),
        max_num_seqs=draw(st.sampled_from([1, 8, 8])),
        policy=draw(st.sampled_from(Policy)),
    )
    return ClusterConfig(
        engine,
        replicas=draw(st.sampled_from([1, 1, 2, 3])),
        routers=draw(st.integers(1, 2)),
        report_interval_s=draw(st.sampled_from([0.05, 1.0])),
    )
