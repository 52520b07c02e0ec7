"""Whether a client's body tells the engine where to fetch KV blocks, in one of the ways that vLLM has for it.

Read from vLLM 0.32, ``entrypoints``: the field itself, or an argument of that name among those for extensions, which
is put where the field's value is put, whatever its type.
"""

from __future__ import annotations

from typing import Any

NAME = "kv_transfer_params"


def names_blocks(params: Any, vllm_xargs: Any, sampling_params: Any) -> bool:
    """By the values of ``kv_transfer_params``, ``vllm_xargs`` and ``sampling_params``; None: the body has none."""
    extra_args = sampling_params.get("extra_args") if isinstance(sampling_params, dict) else None
    return params is not None or any(
        isinstance(args, dict) and args.get(NAME) is not None for args in (vllm_xargs, extra_args)
    )
