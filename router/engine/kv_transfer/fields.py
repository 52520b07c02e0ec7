"""The top level of a request's body: field names, and their values as JSON text. Nothing below it is read."""

from __future__ import annotations

from typing import Any

import msgspec

from router.engine.kv_transfer.legs import HandOverError

Fields = dict[str, msgspec.Raw]

ONE, TRUE, FALSE = msgspec.Raw(b"1"), msgspec.Raw(b"true"), msgspec.Raw(b"false")

_DECODER = msgspec.json.Decoder(Fields)


def read_fields(body: bytes) -> Fields:
    """Raises HandOverError when ``body`` is not a JSON object. Numbers such as NaN, which some servers take, are none
    here."""
    try:
        return _DECODER.decode(body)
    except (ValueError, RecursionError) as error:
        raise HandOverError(f"the body cannot be read: {error}") from error


def write_fields(fields: Fields) -> bytes:
    """Values that nobody replaced are copied byte for byte."""
    return msgspec.json.encode(fields)


def raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def text_of(fields: Fields, name: str) -> bytes:
    """The JSON text of a field, empty when it is absent or null."""
    text = bytes(fields.get(name, b"")).strip()
    return b"" if text == b"null" else text
