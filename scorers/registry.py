"""Finds scorers by name: those shipped here, entry points of ``weft.scorers``, and ``module:Class``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.core.plugins import PluginError, find
from router.core.scheduler import Scorer
from scorers.added_cost import AddedCost
from scorers.guarded import Guarded
from scorers.in_flight_tokens import InFlightTokens
from scorers.kv_utilisation import KvUtilisation
from scorers.lora_affinity import LoraAffinity
from scorers.no_hit_lru import NoHitLru
from scorers.pd_role import PdRole
from scorers.peers.aibrix_prefix_cache import AibrixPrefixCache
from scorers.peers.autellix_locality import AutellixLocality
from scorers.peers.dynamo_cost import DynamoCost
from scorers.peers.dynamo_lmetric import DynamoLMetric
from scorers.peers.llm_d_token_load import LlmDTokenLoad
from scorers.peers.preble import Preble
from scorers.peers.production_stack_prefixaware import ProductionStackPrefixaware
from scorers.peers.smg_cache_aware import SmgCacheAware
from scorers.peers.vllm_router_cache_aware import VllmRouterCacheAware
from scorers.predicted_ttft import PredictedTtft
from scorers.prefix_cache import PrefixCache
from scorers.queue_depth import QueueDepth
from scorers.running_requests import RunningRequests
from scorers.session_affinity import SessionAffinity
from scorers.transfer_cost import TransferCost

SHIPPED: dict[str, type[Any]] = {
    scorer.name: scorer
    for scorer in (
        AddedCost,
        AibrixPrefixCache,
        AutellixLocality,
        DynamoCost,
        DynamoLMetric,
        InFlightTokens,
        KvUtilisation,
        LlmDTokenLoad,
        LoraAffinity,
        NoHitLru,
        PdRole,
        Preble,
        PredictedTtft,
        PrefixCache,
        ProductionStackPrefixaware,
        QueueDepth,
        RunningRequests,
        SessionAffinity,
        SmgCacheAware,
        TransferCost,
        VllmRouterCacheAware,
    )
}


class UnknownScorerError(ValueError):
    """No scorer has that name, or it cannot be made with those parameters."""


def make_scorer(name: str, parameters: Mapping[str, Any]) -> Scorer:
    """A scorer by name. Raises UnknownScorerError with what is allowed."""
    try:
        found = find("scorer", name, SHIPPED)
    except PluginError as error:
        raise UnknownScorerError(str(error)) from error
    made: Scorer = _construct(name, found, parameters)
    return made if name in SHIPPED else Guarded(made)


def _construct(name: str, found: Any, parameters: Mapping[str, Any]) -> Any:
    try:
        made = found(**parameters)
    except TypeError as error:
        raise UnknownScorerError(f"scorer {name!r} does not take these parameters: {error}") from error
    if not isinstance(getattr(made, "name", None), str) or not callable(getattr(made, "score", None)):
        raise UnknownScorerError(f"scorer {name!r} needs `name` and `score(request, candidates, view)`")
    return made
