"""Addresses as Envoy writes them, from ``HOST:PORT``, ``[IPV6]:PORT``, ``:PORT`` and ``unix:PATH``."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from router.proxy.listener import split_address

Json = dict[str, Any]
"""A piece of Envoy's configuration."""


def to_listen(text: str) -> Json:
    """Where a socket is opened. Raises ValueError when it is not an address, or a name: Envoy resolves none here."""
    if text.startswith("unix:"):
        return _pipe(text)
    host, port = split_address(text)
    host = host or "0.0.0.0"
    if not is_ip(host):
        raise ValueError(f"{text!r}: Envoy listens on an IP address, not on a name, or on unix:PATH")
    return _socket(host, port)


def to_dial(text: str) -> Json:
    """Where a connection goes; a name is resolved by Envoy. Raises ValueError."""
    if text.startswith("unix:"):
        return _pipe(text)
    host, port = split_address(text)
    return _socket(host or "127.0.0.1", port)


def is_name(text: str) -> bool:
    """Whether Envoy has to resolve it before it can dial. Raises ValueError when it is no address."""
    return not text.startswith("unix:") and not is_ip(split_address(text)[0] or "127.0.0.1")


def is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _pipe(text: str) -> Json:
    return {"pipe": {"path": text.removeprefix("unix:")}}


def _socket(host: str, port: int) -> Json:
    return {"socket_address": {"address": host, "port_value": port}}
