"""Steps of a program are rendered one after the other, and share what they have in common."""

from __future__ import annotations

from cluster_world import part
from hypothesis import given, settings
from hypothesis import strategies as st

from router.core.index.hashing import hash_blocks
from sim.cluster.tokens import Renderer, render
from sim.workloads.program import Step

PARTS = st.lists(st.builds(part, st.integers(1, 2), st.integers(0, 6), st.sampled_from([0, 0, 3])), max_size=4)
STEPS = st.builds(Step, st.just("step"), PARTS.map(tuple), st.integers(1, 5), st.integers(1, 3))


@settings(deadline=None)
@given(st.lists(STEPS, max_size=6), st.integers(1, 5))
def test_a_step_is_the_same_whatever_was_rendered_before(steps: list[Step], block_size: int) -> None:
    renderer = Renderer(block_size)
    for step in steps:
        tokens, hashes = renderer.render(step)
        alone, its_hashes = Renderer(block_size).render(step)
        assert tokens.tolist() == alone.tolist() == render(step).tolist()
        assert hashes.tolist() == its_hashes.tolist()
        assert len(hashes) == len(hash_blocks(tokens, block_size, 0)), "one for each full block"
