"""A discrete-event cluster: engine models behind production routers, in virtual time."""

from sim.cluster.cluster import Cluster
from sim.cluster.config import ClusterConfig, Link
from sim.cluster.record import CallRecord, PrefillRecord, ProgramRecord, ReplicaRecord, RouterCost, Run

__all__ = [
    "CallRecord",
    "Cluster",
    "ClusterConfig",
    "Link",
    "PrefillRecord",
    "ProgramRecord",
    "ReplicaRecord",
    "RouterCost",
    "Run",
]
