"""The engine model: one vLLM v1 replica as a state machine, without I/O, clock or tokens."""

from sim.engine.config import EngineConfig, KvLoadFailurePolicy, Policy
from sim.engine.engine import Engine, StepResult
from sim.engine.events import BlocksRemoved, BlocksStored, CacheCleared, KvEvent
from sim.engine.frontend import Frontend
from sim.engine.profile import Profile, load_profile, profile_names
from sim.engine.request import Request, Status
from sim.engine.step_time import StepTime, Work
from sim.engine.transfer import TransferModel

__all__ = [
    "BlocksRemoved",
    "BlocksStored",
    "CacheCleared",
    "Engine",
    "EngineConfig",
    "Frontend",
    "KvEvent",
    "KvLoadFailurePolicy",
    "Policy",
    "Profile",
    "Request",
    "Status",
    "StepResult",
    "StepTime",
    "TransferModel",
    "Work",
    "load_profile",
    "profile_names",
]
