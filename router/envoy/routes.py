"""Which requests go to replicas, which to Weft itself, and how often they are tried."""

from __future__ import annotations

from router.envoy.address import Json
from router.envoy.clusters import REPLICAS, WEFT
from router.envoy.filters import EXT_PROC_FILTER
from router.envoy.settings import EnvoySettings
from router.envoy.typed import extension, seconds, typed

_RETRY_ON = "connect-failure,refused-stream,reset-before-request,retriable-status-codes"
_OVERLOADED = 503
"""What vLLM says when it takes nothing more: nothing was computed then."""


def routes(settings: EnvoySettings) -> Json:
    """The route table."""
    local = _local(settings) if settings.weft else []
    host = {"name": "all", "domains": ["*"], "routes": [*local, _to_replicas(settings)]}
    return {"name": "weft", "virtual_hosts": [host], "ignore_port_in_host_matching": True}


def _local(settings: EnvoySettings) -> list[Json]:
    matches: list[Json] = [{"path": path} for path in settings.local_paths]
    matches += [{"path_separated_prefix": tree} for tree in settings.local_trees]
    passed_by = typed("filters.http.ext_proc.v3.ExtProcPerRoute", disabled=True)
    return [
        {
            "match": match,
            "route": {"cluster": WEFT, "timeout": "0s"},
            "typed_per_filter_config": {EXT_PROC_FILTER: passed_by},
        }
        for match in matches
    ]


def _to_replicas(settings: EnvoySettings) -> Json:
    limits = settings.limits
    # A stream is idle while Weft holds it, and while a replica computes an answer that is not streamed.
    idle_s = max(settings.hold_s, limits.first_byte_timeout_s, limits.stream_idle_timeout_s) + 30.0
    route: Json = {"cluster": REPLICAS, "timeout": "0s", "idle_timeout": seconds(idle_s)}
    if settings.fleet.is_known and limits.max_tries > 1:
        route["retry_policy"] = _retries(limits.max_tries - 1)
    return {
        "match": {"prefix": "/"},
        "route": route,
        "request_body_buffer_limit": limits.max_body_bytes,
        "response_headers_to_add": [
            _header("x-weft-replica", "%UPSTREAM_REMOTE_ADDRESS%"),
            _header("x-weft-explain", "%DYNAMIC_METADATA(weft:explain)%"),
        ],
    }


def _header(name: str, value: str) -> Json:
    """Left out where there is no value."""
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def _retries(count: int) -> Json:
    """On the next of Weft's choices, as long as the client has seen nothing."""
    others = extension(
        "envoy.retry_host_predicates.previous_hosts", "retry.host.previous_hosts.v3.PreviousHostsPredicate"
    )
    return {
        "retry_on": _RETRY_ON,
        "retriable_status_codes": [_OVERLOADED],
        "num_retries": count,
        "retry_host_predicate": [others],
        "host_selection_retry_max_attempts": count + 2,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.05s"},
    }
