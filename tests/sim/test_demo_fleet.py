"""Real processes: they get ready, their death is noticed, and nothing outlives the block."""

import asyncio

import pytest

from sim.demo.fleet import FleetError, free_port, running_fleet


async def test_a_fleet_is_ready_notices_deaths_and_leaves_nothing_behind(tmp_path):
    async with running_fleet(2, "laptop-demo", ["--programs"], tmp_path) as fleet:
        assert fleet.model == "laptop-demo"
        async with fleet.http.get(f"{fleet.router_url}/v1/programs") as response:
            assert response.status == 200
        assert await fleet.during(asyncio.sleep(0, "done")) == "done"
        replicas, router = fleet.processes
        replicas.process.kill()
        with pytest.raises(FleetError, match="the simulated replicas ended with exit code -9"):
            await fleet.during(asyncio.Event().wait())
        assert router.process.returncode is None
    assert router.process.returncode is not None


async def test_a_router_that_does_not_start_is_an_error_with_its_last_words(tmp_path):
    with pytest.raises(FleetError, match=r"(?s)the router ended with exit code 2.*no profile 'of-dreams'"):
        async with running_fleet(1, "laptop-demo", ["--profile=of-dreams"], tmp_path):
            pass


def test_free_ports_are_free_all_in_a_row():
    first = free_port(in_a_row=8)
    assert 1024 < first < 65_536 - 8
