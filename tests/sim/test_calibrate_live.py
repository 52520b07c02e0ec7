"""``weft sim calibrate`` against simulated replicas, whose step times are known, and against servers that are none."""

from __future__ import annotations

import asyncio
import signal
import sys
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from sim.calibrate.calibrate import Calibration, calibrate
from sim.calibrate.errors import CalibrationError
from sim.calibrate.observation import prefill
from sim.engine import EngineConfig, Frontend, StepTime, load_profile
from sim.engine.step_time import PS_PER_S
from sim.replica.serving import serve_replicas
from sim.replica.settings import Settings

US, NS = PS_PER_S // 10**6, PS_PER_S // 10**9
BASE = load_profile("llama-3.1-8b-1xh100").engine
SLOW = EngineConfig(
    StepTime(25_000 * US, 200 * US, 400 * NS, 5_000 * US, 8_000 * NS),
    num_blocks=193,
    block_size_tokens=16,
    max_num_batched_tokens=256,
    max_num_seqs=6,
    max_model_len_tokens=1024,
    frontend=Frontend(30_000 * US, 20_000 * NS),
)
"""Slow enough that this machine's own delays, some milliseconds, are small beside it."""

REAL_FRONTEND_S = 0.015
"""What the simulated replica's own HTTP and this test's client may add to its frontend on a busy machine."""


async def calibrate_at(url: str, **options: str) -> Calibration:
    headers = {"Authorization": f"Bearer {options['api_key']}"} if "api_key" in options else {}
    async with aiohttp.ClientSession(headers=headers) as session:
        return await calibrate(session, url, BASE, model=options.get("model"), seed=1, say=print)


def ttft_s(engine: EngineConfig, tokens: int) -> float:
    """Of a cold prompt: what the terms of prefill add up to is better known than each of them."""
    steps, work = prefill(tokens, 0, engine.max_num_batched_tokens)
    step_ps = engine.step_time.duration_ps(work) + (steps - 1) * engine.step_time.fixed_ps
    return engine.frontend.delay_s(tokens) + step_ps / PS_PER_S


async def test_the_known_coefficients_and_limits_of_a_simulated_replica_are_found() -> None:
    async with serve_replicas(1, Settings(SLOW, "slow")) as (replica,):
        found = await calibrate_at(replica.url)
    assert found.model == "slow"
    assert replace(found.engine, step_time=SLOW.step_time, frontend=SLOW.frontend) == SLOW
    step, known = found.fit.step_time, SLOW.step_time
    for name in ("fixed_ps", "decode_seq_ps", "context_token_ps"):
        assert getattr(step, name) == pytest.approx(getattr(known, name), rel=0.06), name
    for name in ("prefill_token_ps", "attention_pair_ps"):
        assert getattr(step, name) == pytest.approx(getattr(known, name), rel=0.25), name
    for tokens in (100, 300, 700, 1000):
        added_s = ttft_s(found.engine, tokens) - ttft_s(SLOW, tokens)
        assert -0.05 * ttft_s(SLOW, tokens) < added_s < 0.05 * ttft_s(SLOW, tokens) + REAL_FRONTEND_S, tokens
    assert found.fit.r2 > 0.99
    assert not [warning for warning in found.warnings if "busy" in warning]


async def test_requests_of_others_are_warned_of() -> None:
    quick = replace(SLOW, step_time=StepTime(10**9, 10**6, 10**3, 10**6, 10**3), frontend=Frontend())
    async with serve_replicas(1, Settings(quick, "quick")) as (replica,), aiohttp.ClientSession() as session:
        body = {"model": "quick", "prompt": [1, 2, 3], "max_tokens": 1000, "ignore_eos": True, "stream": True}
        async with session.post(f"{replica.url}/v1/completions", json=body) as response:
            await response.content.readany()
            found = await calibrate_at(replica.url)
    assert "the replica was busy before the first probe: 1 running, 0 waiting requests of others" in found.warnings


async def test_a_model_that_is_not_served_is_named_with_those_that_are() -> None:
    async with serve_replicas(1, Settings(SLOW, "slow")) as (replica,):
        with pytest.raises(CalibrationError, match="does not serve 'other', but slow"):
            await calibrate_at(replica.url, model="other")


async def test_a_replica_that_refuses_requests_ends_the_calibration_with_its_words() -> None:
    async with serve_replicas(1, Settings(SLOW, "slow")) as (replica,), aiohttp.ClientSession() as session:
        await session.post(f"{replica.url}/sim/fault", json={"kind": "refuse"})
        with pytest.raises(CalibrationError, match=r"overloaded|503"):
            await calibrate_at(replica.url)


MODELS = '{"data": [{"id": "m", "max_model_len": 4096}]}'
METRICS = 'vllm:num_requests_running{engine="0"} 0.0\nvllm:num_requests_waiting{engine="0"} 0.0\n'
INFO = 'vllm:cache_config_info{block_size="16",enable_prefix_caching="True",engine="%d",num_gpu_blocks="100"} 1.0\n'


@pytest.mark.parametrize(
    ("routes", "message"),
    [
        pytest.param({}, "answered 404, expected 200: is a vLLM server behind this URL", id="no OpenAI server"),
        pytest.param({"/v1/models": "<html>"}, "not a list of models", id="HTML"),
        pytest.param({"/v1/models": '{"data": []}'}, "serves no model", id="no model"),
        pytest.param({"/v1/models": MODELS}, "calibration reads vLLM's metrics", id="no metrics"),
        pytest.param({"/v1/models": MODELS, "/metrics": "up 1\n"}, "no vllm:num_requests_running", id="other metrics"),
        pytest.param(
            {"/v1/models": MODELS, "/metrics": METRICS + INFO % 0 + INFO % 1},
            "2 data-parallel engines",
            id="data parallel",
        ),
        pytest.param({"/v1/models": MODELS, "/metrics": METRICS}, "must have this route", id="chat only"),
    ],
)
async def test_servers_that_cannot_be_calibrated_are_told_apart(routes: dict[str, str], message: str) -> None:
    async def answer(request: web.Request) -> web.Response:
        text = routes.get(request.path)
        return web.Response(text=text) if text is not None else web.Response(status=404)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    async with TestServer(app) as server:
        with pytest.raises(CalibrationError, match=message):
            await calibrate_at(str(server.make_url("")).rstrip("/"))


async def test_a_server_with_a_key_is_asked_with_it() -> None:
    asked: list[str | None] = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.headers.get("Authorization"))
        return web.Response(status=200 if asked[-1] == "Bearer secret" else 401, text=MODELS)

    app = web.Application()
    app.router.add_get("/v1/models", answer)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        with pytest.raises(CalibrationError, match="--api-key"):
            await calibrate_at(url)
        with pytest.raises(CalibrationError, match="metrics"):
            await calibrate_at(url, api_key="secret")
    assert asked == [None, "Bearer secret"]


async def test_ctrl_c_ends_it_without_a_file_or_a_traceback(tmp_path: Path) -> None:
    out = tmp_path / "profile.yaml"
    async with serve_replicas(1, Settings(SLOW, "slow")) as (replica,):
        command = (sys.executable, "-m", "router.cli", "sim", "calibrate", replica.url, "--out", str(out))
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        assert process.stderr is not None
        async with asyncio.timeout(60):
            while b"slow at" not in await process.stderr.readline():
                pass
            process.send_signal(signal.SIGINT)
            rest = await process.stderr.read()
            assert await process.wait() == 1
        while replica.driver.in_flight:
            await asyncio.sleep(0.01)
    assert b"Aborted!" in rest
    assert b"Traceback" not in rest
    assert not out.exists()
