"""The whole configuration of an Envoy in front of Weft."""

from __future__ import annotations

import yaml

from router.envoy.address import Json, to_listen
from router.envoy.clusters import clusters
from router.envoy.filters import access_log, filters, forget_endpoint
from router.envoy.routes import routes
from router.envoy.settings import EnvoySettings
from router.envoy.tls import from_clients
from router.envoy.typed import expression, extension, seconds

LISTENER = "clients"
_MAX_CONNECTIONS = 100_000
_BACKLOG = 4096


def bootstrap(settings: EnvoySettings) -> Json:
    """Raises ValueError for settings that do not go together, or addresses that are none."""
    if settings.fail_open and not settings.fleet.is_known:
        raise ValueError("requests can do without Weft only where Envoy knows the replicas")
    content: Json = {
        "node": {"id": "weft", "cluster": "weft"},
        "static_resources": {"listeners": [_listener(settings)], "clusters": clusters(settings)},
        "overload_manager": {"resource_monitors": [_connection_limit()]},
    }
    if settings.admin:
        content["admin"] = {"address": to_listen(settings.admin)}
    return content


def to_yaml(settings: EnvoySettings) -> str:
    """As a file. Raises ValueError."""
    return yaml.safe_dump(bootstrap(settings), sort_keys=False, width=120)


def _listener(settings: EnvoySettings) -> Json:
    chain: Json = {"filters": [_http(settings)]}
    if settings.listen_tls is not None:
        chain["transport_socket"] = from_clients(settings.listen_tls)
    return {
        "name": LISTENER,
        "address": to_listen(settings.listen),
        "tcp_backlog_size": _BACKLOG,
        "filter_chains": [chain],
    }


def _http(settings: EnvoySettings) -> Json:
    limits = settings.limits
    return extension(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="weft",
        server_header_transformation="PASS_THROUGH",
        use_remote_address=True,
        normalize_path=True,
        merge_slashes=True,
        # Replicas log it, and answers carry it back.
        preserve_external_request_id=True,
        always_set_request_id_in_response=True,
        early_header_mutation_extensions=[forget_endpoint()],
        max_request_headers_kb=max(1, limits.max_head_bytes // 1024),
        request_headers_timeout=seconds(limits.header_timeout_s),
        # Long answers, and long waits for them: the routes say how long a stream may be silent.
        stream_idle_timeout=seconds(limits.body_timeout_s),
        common_http_protocol_options={"idle_timeout": seconds(limits.keep_alive_s)},
        route_config=routes(settings),
        http_filters=filters(settings),
        local_reply_config=_own_errors(),
        access_log=[access_log()] if settings.access_log else [],
    )


def _own_errors() -> Json:
    """What Envoy itself refuses, in the shape that OpenAI's clients read. Weft's refusals have it already."""
    error = {
        "message": "%LOCAL_REPLY_BODY%",
        "type": "envoy_error",
        "param": None,
        "code": "%RESPONSE_CODE_DETAILS%",
    }
    own = expression("!response.code_details.startsWith('weft')")
    mapper = {"filter": {"extension_filter": own}, "body_format_override": {"json_format": {"error": error}}}
    return {"mappers": [mapper]}


def _connection_limit() -> Json:
    return extension(
        "envoy.resource_monitors.global_downstream_max_connections",
        "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        max_active_downstream_connections=_MAX_CONNECTIONS,
    )
