"""Certificates of the ext-proc server, read again when their files change."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

_log = logging.getLogger("weft.extproc")


@dataclass(slots=True, frozen=True)
class TlsFiles:
    certificate: Path
    key: Path
    client_ca: Path | None = None
    """Set: gateways must show a certificate that it signed."""


def credentials(files: TlsFiles) -> Any:
    """For ``add_secure_port``. Raises ValueError when the files cannot be read."""
    reloading = _Reloading(files)
    return grpc.dynamic_ssl_server_credentials(reloading.first(), reloading.changed, files.client_ca is not None)


class _Reloading:
    """``changed`` is asked before each handshake, on a thread of gRPC's."""

    def __init__(self, files: TlsFiles) -> None:
        self._files = files
        self._read_at = self._stamp()

    def first(self) -> Any:
        """Raises ValueError."""
        try:
            return self._read()
        except OSError as error:
            raise ValueError(f"{error.filename} cannot be read: {error.strerror}") from error

    def changed(self) -> Any:
        """The certificates, if their files changed; None: those in use are good."""
        stamp = self._stamp()
        if stamp == self._read_at:
            return None
        try:
            read = self._read()
        except OSError as error:
            _log.warning("certificates stay as they are: %s", error)
            return None
        self._read_at = stamp
        return read

    def _read(self) -> Any:
        files = self._files
        pair = (files.key.read_bytes(), files.certificate.read_bytes())
        client_ca = files.client_ca.read_bytes() if files.client_ca else None
        return grpc.ssl_server_certificate_configuration([pair], root_certificates=client_ca)

    def _stamp(self) -> tuple[int, ...]:
        """Changes with the files; also where they are links into a directory that is exchanged, as in Kubernetes."""
        files = (self._files.certificate, self._files.key, self._files.client_ca)
        return tuple(_changed_at(path) for path in files if path is not None)


def _changed_at(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
