"""A discrete-event cluster: engine models behind production routers, in virtual time."""

from sim.cluster.cluster import Cluster, Hint, no_hint, session_hint
from sim.cluster.config import ClusterConfig, Link
from sim.cluster.record import CallRecord, ProgramRecord, ReplicaRecord, RouterCost, Run

__all__ = [
    "CallRecord",
    "Cluster",
    "ClusterConfig",
    "Hint",
    "Link",
    "ProgramRecord",
    "ReplicaRecord",
    "RouterCost",
    "Run",
    "no_hint",
    "session_hint",
]
