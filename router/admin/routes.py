"""What the router answers itself: health, readiness, metrics and the models of all replicas."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from router.core.router import Router
from router.core.types import Health
from router.proxy.ports import LocalResponse, LocalRoutes

_JSON = [(b"content-type", b"application/json")]
_PROMETHEUS = [(b"content-type", b"text/plain; version=0.0.4; charset=utf-8")]


def local_routes(router: Router, render_metrics: Callable[[], bytes], started_unix_s: int) -> LocalRoutes:
    """Routes by method and path."""

    def health() -> LocalResponse:
        return LocalResponse(200)

    def ready() -> LocalResponse:
        return _ready(router)

    def metrics() -> LocalResponse:
        return LocalResponse(200, _PROMETHEUS, render_metrics())

    def models() -> LocalResponse:
        return LocalResponse(200, _JSON, msgspec.json.encode(_models(router, started_unix_s)))

    return {
        ("GET", "/health"): health,
        ("GET", "/ready"): ready,
        ("GET", "/metrics"): metrics,
        ("GET", "/v1/models"): models,
    }


def _ready(router: Router) -> LocalResponse:
    """200 as soon as one replica can be routed to. Says also how much is under way."""
    replicas = {spec.name: router.fleet.health[slot].value for slot, spec in router.fleet}
    is_ready = Health.HEALTHY.value in replicas.values()
    status = {"ready": is_ready, "replicas": replicas, "waiting": router.waiting, "in_flight": router.in_flight}
    body = msgspec.json.encode(status)
    return LocalResponse(200 if is_ready else 503, _JSON, body)


def _models(router: Router, started_unix_s: int) -> dict[str, object]:
    """Every model and adapter that some replica serves, in OpenAI's list shape."""
    cards: dict[str, dict[str, object]] = {}
    for _, spec in router.fleet:
        for name in (*spec.models, *spec.adapters):
            cards.setdefault(
                name,
                {
                    "id": name,
                    "object": "model",
                    "created": started_unix_s,
                    "owned_by": "weft",
                    "root": spec.base_model,
                    "parent": spec.base_model if name in spec.adapters else None,
                    "max_model_len": spec.max_model_len_tokens or None,
                },
            )
    return {"object": "list", "data": list(cards.values())}
