"""Whose request it is. Never what the client says of itself, unless it is its credential."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

from router.hints.settings import IdentitySettings
from router.hints.values import MalformedError, name

Headers = Sequence[tuple[bytes, bytes]]
"""Lower-cased names and values, in the order in which they came."""

_CREDENTIALS = (b"authorization", b"x-api-key", b"api-key")
_HASH_BYTES = 12


def tenant_of(headers: Headers, settings: IdentitySettings, warnings: Counter[str]) -> str:
    """The tenant: the trusted header's value, else one for each API key, else "".

    A trusted header that comes twice is not believed: a client has sent one of its own, and the gateway did not remove
    it.
    """
    if settings.tenant_header and (tenant := _trusted(headers, settings.tenant_header, warnings)):
        return tenant
    return _from_key(headers) if settings.tenant_from_key else ""


def granted_priority(asked: int, tenant: str, settings: IdentitySettings) -> int:
    """As urgent as the client says, but no more than the configuration lets this tenant be."""
    return min(asked, settings.max_priority_of.get(tenant, settings.max_priority))


def _trusted(headers: Headers, header: str, warnings: Counter[str]) -> str:
    wanted = header.encode()
    values = [value for key, value in headers if key == wanted]
    if len(values) > 1:
        warnings[f"{header}: given twice"] += 1
        return ""
    try:
        return name(values[0]) if values else ""
    except MalformedError as problem:
        warnings[f"{header}: {problem}"] += 1
        return ""


def _from_key(headers: Headers) -> str:
    """``key-`` and a hash: the same key is the same tenant whichever header and scheme it came with."""
    credentials = {header: value for header, value in headers if header in _CREDENTIALS}
    for header in _CREDENTIALS:
        if key := credentials.get(header, b"").rpartition(b" ")[2]:
            return "key-" + blake2b(key, digest_size=_HASH_BYTES).hexdigest()
    return ""
