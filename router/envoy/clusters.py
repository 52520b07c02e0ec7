"""Whom Envoy dials: Weft's two servers, and the replicas."""

from __future__ import annotations

from collections.abc import Sequence

from router.envoy.address import Json, is_name
from router.envoy.places import Place, place_of
from router.envoy.settings import ENDPOINT_HEADER, EnvoySettings, Fleet
from router.envoy.tls import by_place, to_weft
from router.envoy.typed import seconds, typed

EXTPROC = "weft-extproc"
WEFT = "weft"
REPLICAS = "replicas"
FIRST_ENDPOINT = "first-endpoint"
"""Key in the metadata of ``envoy.lb``: the first of the endpoints that Weft named."""

_HEALTH_SERVICE = "envoy.service.ext_proc.v3.ExternalProcessor"
_HTTP_1: Json = {"http_protocol_options": {}}
_HTTP_2: Json = {"http2_protocol_options": {}}
_NO_LIMIT = 1_000_000
"""Weft decides how much is let in."""


def clusters(settings: EnvoySettings) -> list[Json]:
    """Raises ValueError for what is not an address."""
    found = [_extproc(settings), _replicas(settings)]
    if settings.weft:
        found.append(_weft(settings))
    return found


def _extproc(settings: EnvoySettings) -> Json:
    cluster = {
        **_fixed(EXTPROC, [Place(settings.extproc)]),
        **_connecting(settings),
        **_protocol(_HTTP_2),
    }
    if settings.extproc_tls is not None:
        cluster["transport_socket"] = to_weft(settings.extproc_tls)
    if settings.health_checks:
        cluster |= _health_checks()
    return cluster


def _weft(settings: EnvoySettings) -> Json:
    return {**_fixed(WEFT, [Place(settings.weft)]), **_connecting(settings), **_protocol(_HTTP_1)}


def _replicas(settings: EnvoySettings) -> Json:
    idle = {"idle_timeout": seconds(settings.limits.upstream_keep_alive_s)}
    cluster = {
        **_fleet(settings.fleet),
        **_connecting(settings, retries=settings.fleet.is_known),
        **_protocol(_HTTP_1, idle),
    }
    if settings.fleet.secure:
        cluster["transport_socket_matches"] = by_place(settings.limits)
    return cluster


def _fleet(fleet: Fleet) -> Json:
    if fleet.endpoints_file is not None:
        source = {"path_config_source": {"path": str(fleet.endpoints_file)}, "resource_api_version": "V3"}
        return {"name": REPLICAS, "type": "EDS", "eds_cluster_config": {"eds_config": source}} | _picked()
    if fleet.replicas:
        return _fixed(REPLICAS, [place_of(url) for url in fleet.replicas]) | _picked()
    first = {"key": "envoy.lb", "path": [{"key": FIRST_ENDPOINT}]}
    return {
        "name": REPLICAS,
        "type": "ORIGINAL_DST",
        "lb_policy": "CLUSTER_PROVIDED",
        "original_dst_lb_config": {"metadata_key": first},
    }


def _picked() -> Json:
    """Whom Weft named, one after the other; then whoever has the fewest requests."""
    fewest = typed("load_balancing_policies.least_request.v3.LeastRequest")
    picked = typed(
        "load_balancing_policies.override_host.v3.OverrideHost",
        override_host_sources=[{"header": ENDPOINT_HEADER}],
        fallback_policy=_policy("least_request", fewest),
    )
    return {"load_balancing_policy": _policy("override_host", picked)}


def _policy(name: str, config: Json) -> Json:
    extension = {"name": f"envoy.load_balancing_policies.{name}", "typed_config": config}
    return {"policies": [{"typed_extension_config": extension}]}


def _fixed(name: str, places: Sequence[Place]) -> Json:
    endpoints = [place.endpoint() for place in places]
    return {
        "name": name,
        "type": "STRICT_DNS" if any(is_name(place.address) for place in places) else "STATIC",
        "dns_lookup_family": "V4_PREFERRED",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
    }


def _connecting(settings: EnvoySettings, *, retries: bool = False) -> Json:
    limits = settings.limits
    bounds: Json = {"max_connections": _NO_LIMIT, "max_pending_requests": _NO_LIMIT, "max_requests": _NO_LIMIT}
    if retries:
        percent = {"value": 100.0 * limits.retry_share}
        bounds["retry_budget"] = {"budget_percent": percent, "min_retry_concurrency": limits.retry_burst}
    return {
        "connect_timeout": seconds(limits.connect_timeout_s),
        "circuit_breakers": {"thresholds": [bounds]},
    }


def _protocol(http: Json, common: Json | None = None) -> Json:
    options: Json = {"explicit_http_config": http}
    if common:
        options["common_http_protocol_options"] = common
    name = "upstreams.http.v3.HttpProtocolOptions"
    return {"typed_extension_protocol_options": {f"envoy.extensions.{name}": typed(name, **options)}}


def _health_checks() -> Json:
    check = {
        "timeout": "5s",
        "interval": "5s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        "no_traffic_interval": "5s",
        "grpc_health_check": {"service_name": _HEALTH_SERVICE},
    }
    # Otherwise Envoy takes all of Weft's servers for well as soon as most of them are not.
    return {"health_checks": [check], "common_lb_config": {"healthy_panic_threshold": {"value": 0.0}}}
