"""What happens to a request inside Envoy, and what Weft is told of its end."""

from __future__ import annotations

from router.envoy.address import Json
from router.envoy.clusters import EXTPROC, FIRST_ENDPOINT, WEFT
from router.envoy.settings import ENDPOINT_HEADER, BodyMode, EnvoySettings
from router.envoy.typed import expression, extension, seconds

EXT_PROC_FILTER = "envoy.filters.http.ext_proc"
LOG_DELAY_S = 0.05
"""Ends of requests are told to Weft together, no later than this."""

_BODY_MODES = {
    BodyMode.BUFFERED: "BUFFERED",
    BodyMode.DUPLEX: "FULL_DUPLEX_STREAMED",
}


def filters(settings: EnvoySettings) -> list[Json]:
    """The HTTP filters, in order."""
    chain = [_ext_proc(settings)]
    if not settings.fleet.is_known:
        chain.append(_first_endpoint())
    chain.append(extension("envoy.filters.http.router", "filters.http.router.v3.Router", suppress_envoy_headers=True))
    return chain


def forget_endpoint() -> Json:
    """Clients do not choose replicas, also not where requests go on without Weft."""
    return extension(
        "envoy.http.early_header_mutation.header_mutation",
        "http.early_header_mutation.header_mutation.v3.HeaderMutation",
        mutations=[{"remove_on_match": {"key_matcher": {"prefix": ENDPOINT_HEADER}}}],
    )


def access_log() -> Json:
    """The end of every request that Weft was asked about, to Weft."""
    log = extension(
        "envoy.access_loggers.http_grpc",
        "access_loggers.grpc.v3.HttpGrpcAccessLogConfig",
        common_config={
            "log_name": "weft",
            "transport_api_version": "V3",
            "grpc_service": _weft_grpc(),
            "buffer_flush_interval": seconds(LOG_DELAY_S),
        },
    )
    return log | {"filter": {"extension_filter": expression(f"xds.cluster_name != '{WEFT}'")}}


def _ext_proc(settings: EnvoySettings) -> Json:
    """Weft sees a request's head and body, and nothing of the answer."""
    mode = {
        "request_header_mode": "SEND",
        "request_body_mode": _BODY_MODES[settings.body],
        "request_trailer_mode": "SEND" if settings.body is BodyMode.DUPLEX else "SKIP",
        "response_header_mode": "SKIP",
        "response_body_mode": "NONE",
        "response_trailer_mode": "SKIP",
    }
    return extension(
        EXT_PROC_FILTER,
        "filters.http.ext_proc.v3.ExternalProcessor",
        grpc_service=_weft_grpc(),
        processing_mode=mode,
        message_timeout=seconds(settings.hold_s),
        failure_mode_allow=settings.fail_open,
        status_on_error={"code": "ServiceUnavailable"},
        metadata_options={
            "forwarding_namespaces": {"untyped": ["envoy.lb.subset_hint", "envoy.lb"]},
            "receiving_namespaces": {"untyped": ["envoy.lb", "weft"]},
        },
    )


def _first_endpoint() -> Json:
    """An ORIGINAL_DST cluster takes one address, and Weft may name several."""
    first = {"pattern": {"regex": "^\\s*([^,\\s]+).*$"}, "substitution": "\\1"}
    rule = {
        "header": ENDPOINT_HEADER,
        "on_header_present": {
            "metadata_namespace": "envoy.lb",
            "key": FIRST_ENDPOINT,
            "type": "STRING",
            "regex_value_rewrite": first,
        },
    }
    name = "envoy.filters.http.header_to_metadata"
    return extension(name, "filters.http.header_to_metadata.v3.Config", request_rules=[rule])


def _weft_grpc() -> Json:
    return {"envoy_grpc": {"cluster_name": EXTPROC}}
