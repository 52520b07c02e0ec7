"""Small words of Envoy's configuration."""

from __future__ import annotations

from typing import Any

from router.envoy.address import Json


def typed(message: str, **fields: Any) -> Json:
    """An extension's own configuration; ``message`` as under ``envoy.extensions``."""
    return {"@type": f"type.googleapis.com/envoy.extensions.{message}", **fields}


def extension(name: str, message: str, **fields: Any) -> Json:
    return {"name": name, "typed_config": typed(message, **fields)}


def expression(text: str) -> Json:
    """Chooses what is logged, or which answers are rewritten. In CEL, Envoy's language for that."""
    name = "envoy.access_loggers.extension_filters.cel"
    return extension(name, "access_loggers.filters.cel.v3.ExpressionFilter", expression=text)


def seconds(value: float) -> str:
    """A duration; at least a millisecond, since Envoy takes 0 for none at all."""
    return f"{max(value, 0.001):.3f}".rstrip("0").rstrip(".") + "s"
