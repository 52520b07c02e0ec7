"""What the workload of a grid needs of either kind of replica, before anything is simulated."""

from __future__ import annotations

from sim.advise.demand import Demand, demand
from sim.bench.arriving import arriving
from sim.bench.grid import Grid
from sim.engine import TransferModel


def reckon(grid: Grid, transfer: TransferModel) -> Demand:
    """Of the first seed's programs. Raises ValueError when there is not one workload at one load."""
    if len(grid.sources) != 1 or len(grid.loads) != 1:
        raise ValueError("a split is for one workload at one load: give one of each")
    setting = grid.setting
    arrival = arriving(grid.sources[0], 1, setting, grid.loads[0])
    if not arrival.offered_load:
        raise ValueError("the programs all arrive at once: give --load")
    duration_s = arrival.work.busy_s / (arrival.offered_load * setting.replicas)
    return demand(arrival.work, duration_s, setting.engine, transfer, setting.slo.tpot_s)
