"""Gateways and load generators: SMG, AIBrix, llm-d and the Gateway API Inference Extension, AIPerf.

Sources: SMG's ``X-SMG-Routing-Key`` and ``crates`` of its priority scheduler, AIBrix's ``HeaderSessionKey``, llm-d's
``program-aware-fairness`` plug-in, whose programs are fairness ids.
"""

from __future__ import annotations

from router.hints.dialect import Dialect
from router.hints.field import Field
from router.hints.values import level

SESSION_KEYS = Dialect(session=("x-smg-routing-key", "x-aibrix-session-key"))
"""AIPerf sends the first when it is told to."""

FAIRNESS = Dialect(program=("x-llm-d-inference-fairness-id", "x-gateway-inference-fairness-id"))
"""The older name is second. Where gateways set it to the tenant, it is to be configured as the tenant's header."""

FIELDS = (Field("x-smg-priority", "priority", level({"bulk": -1, "default": 0, "interactive": 1, "system": 2})),)
