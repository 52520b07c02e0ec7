"""A tiny grid on a Ray cluster of this machine: the same rows as without it."""

from pathlib import Path

import pytest
from bench_world import SMALL, inline, rows_in, weft_bench

pytest.importorskip("ray", reason="Ray is not installed: pip install 'weft[ray]'")
__all__ = ["inline"]


def test_the_same_grid_on_a_local_cluster(inline: None, tmp_path: Path) -> None:
    grid = ("--no-report", *SMALL, "--seeds", "1", "--out")
    assert weft_bench(*grid, tmp_path / "here").exit_code == 0
    result = weft_bench("--ray", "local", *grid, tmp_path / "ray")
    assert result.exit_code == 0, result.output
    assert rows_in(tmp_path / "ray") == rows_in(tmp_path / "here")


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1", "somewhere:over"])
def test_a_cluster_that_is_not_there(address: str) -> None:
    result = weft_bench(*SMALL, "--ray", address)
    assert result.exit_code == 2
    assert f"no Ray cluster at {address}: " in result.output
