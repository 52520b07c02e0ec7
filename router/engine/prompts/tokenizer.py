"""Loads a model's tokenizer from its directory the way Hugging Face transformers does, without transformers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

_NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")
_PROBES = ("a", "b c")
_RENDERED_BY_CODE = frozenset(
    {"DeepseekV32ForCausalLM", "DeepseekV4ForCausalLM", "DeepseekV4ForConditionalGeneration"}
    | {"DeepseekV41ForCausalLM", "GptOssForCausalLM", "InklingForCausalLM", "InklingForConditionalGeneration"}
    | {"KimiK3ForConditionalGeneration", "MoonshotKimiaForCausalLM"}
)
"""Architectures whose prompts vLLM makes in code of its own, not with tokenizer.json and a template."""


class TokenizerError(ValueError):
    """A directory from which the ids that the engine computes cannot be reproduced."""


@dataclass(slots=True, frozen=True)
class ModelTokenizer:
    """A tokenizer, and what of its configuration decides the ids of a prompt."""

    tokenizer: Tokenizer
    special_tokens: dict[str, str]
    """Named special tokens, e.g. ``bos_token``, as templates see them."""
    prefix: tuple[int, ...]
    """Ids put before a text when special tokens are asked for."""
    suffix: tuple[int, ...]
    templates: dict[str, str]
    """Chat templates by name; the one that counts is mostly ``default``."""


def load_tokenizer(directory: Path) -> ModelTokenizer:
    """Reads ``tokenizer.json``, ``tokenizer_config.json`` and the chat templates of a model directory.

    Raises TokenizerError with what is missing or not understood.
    """
    _check_supported(directory)
    file = directory / "tokenizer.json"
    if not file.is_file():
        raise TokenizerError(f"{directory} has no tokenizer.json; use mode replica or text for this model")
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as error:  # the library raises bare Exception for a file that it cannot read
        raise TokenizerError(f"{file}: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    config = _read_json(directory / "tokenizer_config.json")
    _check_stable(directory, tokenizer, config)
    named = {key: _content(value) for key, value in _named_tokens(directory, config).items()}
    _add_missing_tokens(tokenizer, config, named)
    prefix, suffix = _surroundings(tokenizer, config, named)
    return ModelTokenizer(tokenizer, named, prefix, suffix, _templates(directory, config))


def _check_supported(directory: Path) -> None:
    own = _RENDERED_BY_CODE.intersection(_read_json(directory / "config.json").get("architectures") or ())
    mistral = [*directory.glob("tekken.json"), *directory.glob("tokenizer.model.v*")]
    if own or mistral:
        raise TokenizerError(
            f"{directory}: vLLM makes the prompts of {', '.join(own) or 'Mistral models'} in code of its own; "
            "use mode replica for this model"
        )


def _check_stable(directory: Path, tokenizer: Tokenizer, config: dict[str, Any]) -> None:
    """Llama-2's tokenizer is built from tokenizer.json by transformers 4 and from its class by transformers 5."""
    rebuilt = str(config.get("tokenizer_class", "")).startswith("LlamaTokenizer")
    normalizer = tokenizer.normalizer
    if rebuilt and normalizer is not None and b'"Prepend"' in normalizer.__getstate__():
        raise TokenizerError(
            f"{directory}: versions of transformers disagree on this tokenizer; use mode replica for this model"
        )


def _named_tokens(directory: Path, config: dict[str, Any]) -> dict[str, Any]:
    legacy = _read_json(directory / "special_tokens_map.json")
    return {
        key: value
        for key, value in {**legacy, **config}.items()
        if (key in _NAMED or key.endswith("_token")) and isinstance(value, str | dict)
    }


def _add_missing_tokens(tokenizer: Tokenizer, config: dict[str, Any], named: dict[str, str]) -> None:
    """The configuration may name added tokens that tokenizer.json lacks."""
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    listed = config.get("added_tokens_decoder") or {}
    for token_id, token in sorted(listed.items(), key=lambda item: int(item[0])):
        if token["content"] in known:
            continue
        flags = {flag: token[flag] for flag in _FLAGS if flag in token}
        tokenizer.add_tokens([AddedToken(token["content"], **flags)])
        if tokenizer.token_to_id(token["content"]) != int(token_id):
            raise TokenizerError(
                f"added token {token['content']!r} should have id {token_id} but tokenizer.json leaves it "
                f"{tokenizer.token_to_id(token['content'])}; use mode replica for this model"
            )
    special = [AddedToken(text, special=True, normalized=False) for text in named.values()]
    tokenizer.add_special_tokens(special)


def _surroundings(
    tokenizer: Tokenizer, config: dict[str, Any], named: dict[str, str]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Ids that stand before and after a text with special tokens: BOS and the like."""
    if "add_bos_token" in config or "add_eos_token" in config:
        return (
            _single_id(tokenizer, named.get("bos_token") if config.get("add_bos_token") else None),
            _single_id(tokenizer, named.get("eos_token") if config.get("add_eos_token") else None),
        )
    found = {_around(tokenizer, probe) for probe in _PROBES}
    if len(found) != 1:
        raise TokenizerError("the post-processor of tokenizer.json does more than adding tokens around a text")
    return found.pop()


def _around(tokenizer: Tokenizer, probe: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
    bare = tokenizer.encode(probe, add_special_tokens=False).ids
    full = tokenizer.encode(probe).ids
    for start in range(len(full) - len(bare) + 1):
        if full[start : start + len(bare)] == bare:
            return tuple(full[:start]), tuple(full[start + len(bare) :])
    raise TokenizerError("the post-processor of tokenizer.json changes the ids of a text")


def _single_id(tokenizer: Tokenizer, token: str | None) -> tuple[int, ...]:
    token_id = None if token is None else tokenizer.token_to_id(token)
    return () if token_id is None else (token_id,)


def _templates(directory: Path, config: dict[str, Any]) -> dict[str, str]:
    """Template files win over the configuration, as in transformers."""
    found: dict[str, str] = {}
    single = directory / "chat_template.jinja"
    if single.is_file():
        found["default"] = single.read_text(encoding="utf-8")
    for file in sorted((directory / "additional_chat_templates").glob("*.jinja")):
        found[file.stem] = file.read_text(encoding="utf-8")
    if found:
        return found
    listed = config.get("chat_template")
    if isinstance(listed, str):
        return {"default": listed}
    if isinstance(listed, list):
        return {entry["name"]: entry["template"] for entry in listed}
    return {}


def _content(token: str | dict[str, Any]) -> str:
    return token if isinstance(token, str) else str(token["content"])


def _read_json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        parsed = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TokenizerError(f"{file} is not valid JSON: {error}") from error
    if not isinstance(parsed, dict):
        raise TokenizerError(f"{file} must hold a JSON object")
    return parsed
