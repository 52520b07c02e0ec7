"""What, besides tokens, an engine hashes into a block: cache salt and media, as stored events carry it.

One list for each block, in this order: the LoRA adapter's name, ``[identifier, offset]`` of each piece of media
that overlaps the block (the offset counts from the block's start and is negative where the piece began in an
earlier block), the cache salt in the first block of a prompt, digests of prompt embeddings. Some forms name the
kind of a key: ``["lora", ...]``, ``["mm", identifier, offset]``, ``["cache_salt", salt]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from router.core.index.hashing import key_hash, mix_media


def read_extra_keys(
    extra_keys: Sequence[list[Any] | None], lora_name: str | None, starts_prompt: bool
) -> tuple[str, list[int]]:
    """(cache salt or "", media key of each block with 0 for none)."""
    salt = ""
    block_keys = []
    for block, keys in enumerate(extra_keys):
        unnamed_lora, block_key = lora_name, 0
        for key in keys or ():
            match key:
                case ["lora", *_]:
                    pass
                case str() if key == unnamed_lora:
                    unnamed_lora = None
                case ["cache_salt", str() as value]:
                    salt = value
                case str() if starts_prompt and block == 0:
                    salt = key
                case ["mm", identifier, int() as offset] | [identifier, int() as offset]:
                    if offset >= 0:
                        block_key = mix_media(block_key, _content_key(identifier))
                case _:
                    block_key = mix_media(block_key, _content_key(key))
        block_keys.append(block_key)
    return salt, block_keys


def _content_key(identifier: Any) -> int:
    return key_hash(identifier if isinstance(identifier, str | bytes) else msgspec.msgpack.encode(identifier))
