"""TLS towards clients, towards Weft and towards replicas."""

from __future__ import annotations

from ssl import get_default_verify_paths

from router.envoy.address import Json
from router.envoy.places import TLS
from router.envoy.settings import Tls
from router.envoy.typed import extension, typed
from router.proxy.limits import ProxyLimits

_SYSTEM_AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"
"""Where Debian, Ubuntu and Envoy's own images have them; Envoy has no default."""


def from_clients(tls: Tls) -> Json:
    """Serves with a certificate; asks clients for theirs where ``authorities`` are named."""
    common = _common(tls) | {"alpn_protocols": ["h2", "http/1.1"]}
    return extension(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context=common,
        require_client_certificate=bool(tls.authorities),
    )


def to_weft(tls: Tls) -> Json:
    """Trusts whom ``authorities`` sign; without them the certificate is not verified."""
    common = _common(tls) | {"alpn_protocols": ["h2"]}
    return extension(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context=common,
        sni=tls.name,
    )


def by_place(limits: ProxyLimits) -> list[Json]:
    """TLS for those replicas that are marked so, plain text for all others."""
    common: Json = {"alpn_protocols": ["http/1.1"]}
    if limits.upstream_verify:
        common["validation_context"] = {"trusted_ca": {"filename": authorities_of_replicas(limits)}}
    tls = extension(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.UpstreamTlsContext",
        common_tls_context=common,
        auto_host_sni=True,
        auto_sni_san_validation=limits.upstream_verify,
    )
    plain = {"name": "plain", "typed_config": typed("transport_sockets.raw_buffer.v3.RawBuffer")}
    return [
        {"name": "tls", "match": {TLS: True}, "transport_socket": tls},
        {"name": "plain", "match": {}, "transport_socket": plain},
    ]


def authorities_of_replicas(limits: ProxyLimits) -> str:
    """The file of certificates that sign replicas'; it need not exist."""
    return limits.upstream_ca_file or get_default_verify_paths().cafile or _SYSTEM_AUTHORITIES


def _common(tls: Tls) -> Json:
    common: Json = {}
    if tls.certificate:
        common["tls_certificates"] = [
            {"certificate_chain": {"filename": tls.certificate}, "private_key": {"filename": tls.key}}
        ]
    if tls.authorities:
        trusted: Json = {"trusted_ca": {"filename": tls.authorities}}
        if tls.name:
            trusted["match_typed_subject_alt_names"] = [{"san_type": "DNS", "matcher": {"exact": tls.name}}]
        common["validation_context"] = trusted
    return common
