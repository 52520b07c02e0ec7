"""What a replica says about itself: its model, its cache and its scheduler's limits."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from router.engine.http import FetchError, Limits, RefusedError, fetch
from router.engine.metrics import read_scrape
from router.engine.prometheus import MalformedLineError, labels_of, samples
from sim.calibrate.errors import CalibrationError

LIMITS = Limits(timeout_s=15.0)


@dataclass(slots=True)
class Facts:
    """None: the server does not say."""

    model: str
    max_model_len_tokens: int | None = None
    block_size_tokens: int | None = None
    num_blocks: int | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    caches_prefixes: bool = True


@dataclass(slots=True, frozen=True)
class Busy:
    """Requests in the server at one moment."""

    running: int
    waiting: int

    @property
    def requests(self) -> int:
        return self.running + self.waiting


async def ask_facts(session: aiohttp.ClientSession, url: str, model: str | None) -> Facts:
    """Asks /v1/models, /metrics and, where vLLM's development mode is on, /server_info. Raises CalibrationError."""
    facts = _pick(await _models(session, url), model, url)
    _read_cache_config(await _metrics(session, url), facts)
    # Most servers do not have it: what it would tell is found by probing, or stays as in the base profile.
    with suppress(FetchError, msgspec.DecodeError):
        _read_server_info(await fetch(session, f"{url}/server_info?config_format=json", LIMITS), facts)
    return facts


async def ask_busy(session: aiohttp.ClientSession, url: str) -> Busy:
    report = read_scrape(await _metrics(session, url)).report(None)
    if report is None:
        raise CalibrationError(f"{url}/metrics has no vllm:num_requests_running: is a vLLM server behind this URL?")
    return Busy(report.running, report.waiting)


async def _models(session: aiohttp.ClientSession, url: str) -> list[dict[str, Any]]:
    try:
        cards = msgspec.json.decode(await fetch(session, f"{url}/v1/models", LIMITS))["data"]
        return [card for card in cards if isinstance(card["id"], str)]
    except RefusedError as error:
        raise CalibrationError(f"{error}: is the server up, and is this its address?") from error
    except FetchError as error:
        if error.status in (401, 403):
            raise CalibrationError(f"{error}: give the server's key with --api-key") from error
        raise CalibrationError(f"{error}: is a vLLM server behind this URL?") from error
    except (msgspec.DecodeError, KeyError, TypeError) as error:
        raise CalibrationError(f"{url}/v1/models is not a list of models: is a vLLM server behind it?") from error


def _pick(cards: list[dict[str, Any]], model: str | None, url: str) -> Facts:
    names = [card["id"] for card in cards]
    if not names:
        raise CalibrationError(f"{url} serves no model")
    if model is not None and model not in names:
        raise CalibrationError(f"{url} does not serve {model!r}, but {', '.join(names)}: choose one with --model")
    card = next(card for card in cards if model in (None, card["id"]))
    return Facts(card["id"], max_model_len_tokens=_count(card.get("max_model_len")))


async def _metrics(session: aiohttp.ClientSession, url: str) -> bytes:
    try:
        return await fetch(session, f"{url}/metrics", LIMITS)
    except FetchError as error:
        raise CalibrationError(f"{error}: calibration reads vLLM's metrics; ask the server itself, no proxy") from error


def _read_cache_config(body: bytes, facts: Facts) -> None:
    try:
        configs = [labels_of(sample.labels) for sample in samples(body, b"vllm:cache_config_info")]
    except MalformedLineError as error:
        raise CalibrationError(f"/metrics cannot be read: {error}") from error
    if len(configs) > 1:
        raise CalibrationError(
            f"this server runs {len(configs)} data-parallel engines, among which probes would be spread: "
            "calibrate a server with one"
        )
    for config in configs:
        facts.block_size_tokens = _count(config.get("block_size"))
        facts.num_blocks = _count(config.get("num_gpu_blocks"))
        facts.caches_prefixes = config.get("enable_prefix_caching") != "False"


def _read_server_info(body: bytes, facts: Facts) -> None:
    info = msgspec.json.decode(body)
    config = info.get("vllm_config") if isinstance(info, dict) else None
    scheduler = config.get("scheduler_config") if isinstance(config, dict) else None
    if isinstance(scheduler, dict):
        facts.max_num_seqs = _count(scheduler.get("max_num_seqs"))
        facts.max_num_batched_tokens = _count(scheduler.get("max_num_batched_tokens"))


def _count(value: object) -> int | None:
    """A positive whole number, as JSON or as the text of a label."""
    if isinstance(value, str) and value.isdecimal():
        value = int(value)
    return value if type(value) is int and value > 0 else None
