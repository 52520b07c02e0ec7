"""Real replicas that hand KV over to each other: vLLM's connectors, as ``--kv-transfer-config`` names them."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Any

from replicas import Replica, free_ports

PD_BLOCKS = 1200
PD_MODEL_LEN_TOKENS = 8192


class KvRole(StrEnum):
    PREFILL = "kv_producer"
    DECODE = "kv_consumer"
    BOTH = "kv_both"


_ROLES = {KvRole.PREFILL: "prefill", KvRole.DECODE: "decode", KvRole.BOTH: "both"}
"""In the router's words."""


def nixl_replica(role: KvRole, log: Path, *, load_failure_policy: str = "fail", lease_s: float = 30.0) -> Replica:
    """A replica of the tiny model whose KV others fetch, or that fetches that of others, over loopback.

    ``load_failure_policy``: what a request comes to whose KV cannot be fetched, ``fail`` or ``recompute``.
    ``lease_s``: how long a prefill replica keeps the blocks of a prompt that nobody fetches.
    """
    (side_channel_port,) = free_ports(1)
    environment = {
        "VLLM_NIXL_SIDE_CHANNEL_HOST": "127.0.0.1",
        "VLLM_NIXL_SIDE_CHANNEL_PORT": str(side_channel_port),
        "UCX_TLS": "tcp,sm,self",
        "UCX_NET_DEVICES": "lo",
    }
    config = {
        "kv_connector": "NixlConnector",
        "kv_role": role,
        "kv_buffer_device": "cpu",
        "kv_load_failure_policy": load_failure_policy,
        "kv_connector_extra_config": {"kv_lease_duration": lease_s},
    }
    return _replica(config, log, _ROLES[role], environment)


def shared_storage_replica(role: str, folder: Path, log: Path) -> Replica:
    """A replica of the tiny model that keeps the KV of prompts in a folder, and finds there what others computed."""
    config = {
        "kv_connector": "ExampleConnector",
        "kv_role": KvRole.BOTH,
        "kv_connector_extra_config": {"shared_storage_path": str(folder)},
    }
    return _replica(config, log, role, {})


def transferred_tokens(replica: Replica) -> int:
    """Prompt tokens that it got from elsewhere instead of computing them."""
    return int(replica.metric("vllm:prompt_tokens_by_source_total", source="external_kv_transfer"))


def computed_tokens(replica: Replica) -> int:
    """Prompt tokens that it computed."""
    return int(replica.metric("vllm:prompt_tokens_by_source_total", source="local_compute"))


def held_blocks(replica: Replica) -> int:
    """Blocks that are in use, or kept for another replica."""
    return round(replica.metric("vllm:kv_cache_usage_perc") * (PD_BLOCKS - 1))


def _replica(config: dict[str, Any], log: Path, role: str, environment: dict[str, str]) -> Replica:
    options = ("--kv-transfer-config", json.dumps(config), "--enable-server-load-tracking")
    return Replica("tiny", PD_BLOCKS, PD_MODEL_LEN_TOKENS, log, options, environment, role)
