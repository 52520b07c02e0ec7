"""What a client is told whose request goes nowhere."""

from __future__ import annotations

from collections.abc import Collection

from router.core.fleet import ModelRef
from router.core.types import Refusal, RefusalReason


def unknown_model(asked: str, served: Collection[str]) -> Refusal:
    """``served`` is not empty."""
    what = f"The model `{asked}` does not exist" if asked else "The request names no model"
    return Refusal(RefusalReason.UNKNOWN_MODEL, f"{what}; this router serves: {', '.join(sorted(served))}.")


def no_replica(model: ModelRef, retry_after_s: float) -> Refusal:
    message = f"No healthy replica serves `{model.lora or model.base}` at the moment; retry shortly."
    return Refusal(RefusalReason.NO_REPLICA, message, retry_after_s)


def own_transfer() -> Refusal:
    """Such parameters may name blocks of somebody else's, and incomplete ones make a vLLM engine hang or die."""
    message = "`kv_transfer_params` is for the router to say: prompts of this model are handed from replica to replica."
    return Refusal(RefusalReason.OWN_TRANSFER, message)
