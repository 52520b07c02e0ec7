"""The HTTP side of one simulated replica: vLLM's routes, and one to break it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import msgspec
from aiohttp import web

from router.core.types import Tokens
from sim.replica.answers import DONE, VERSION, Answer, ChatAnswer, CompletionAnswer, error_event
from sim.replica.body import GenerateBody, TokenizeBody, check_parameters, read_json
from sim.replica.driver import Driver
from sim.replica.errors import VllmError, internal_error, overloaded, unknown_model
from sim.replica.faults import Condition, Fault
from sim.replica.generation import Generation
from sim.replica.kv_transfer.connector import Connector
from sim.replica.language import Language
from sim.replica.metrics import Metrics
from sim.replica.planner import Planner
from sim.replica.settings import Settings
from sim.replica.streaming import JSON, open_stream, write_stream, write_whole

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]

METRICS_TYPE = "text/plain; version=1.0.0; charset=utf-8"
MAX_BODY_BYTES = 64 << 20


class Host(Protocol):
    """What the server needs of the replica around it."""

    condition: Condition

    def event_sources(self) -> dict[str, Any]: ...
    def apply(self, fault: Fault) -> None: ...


class Server:
    """Answers the requests of one start of a replica."""

    def __init__(
        self,
        settings: Settings,
        language: Language,
        planner: Planner,
        driver: Driver,
        metrics: Metrics,
        connector: Connector,
        host: Host,
    ) -> None:
        self._settings = settings
        self._language = language
        self._planner = planner
        self._driver = driver
        self._metrics = metrics
        self._connector = connector
        self._host = host
        self._started_s = int(time.time())
        self._load = 0
        self._routes: dict[str, tuple[str, Handler]] = {
            "/v1/chat/completions": ("POST", self._chat),
            "/v1/completions": ("POST", self._completion),
            "/v1/models": ("GET", self._models),
            "/tokenize": ("POST", self._tokenize),
            "/health": ("GET", self._health),
            "/ping": ("GET", self._health),
            "/version": ("GET", self._version),
            "/load": ("GET", self._server_load),
            "/metrics": ("GET", self._prometheus),
            "/kv_event_sources": ("GET", self._kv_event_sources),
            "/reset_prefix_cache": ("POST", self._reset_prefix_cache),
            "/sim/fault": ("POST", self._fault),
        }

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        route = self._routes.get(request.path)
        if route is None:
            return _json({"detail": "Not Found"}, status=404)
        method, handler = route
        if request.method != method:
            return _json({"detail": "Method Not Allowed"}, status=405, headers={"Allow": method})
        try:
            return await handler(request)
        except VllmError as error:
            return web.Response(body=error.body(), status=error.status, content_type=JSON)

    async def _chat(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await request.read()
        body = read_json(raw, request.headers.get("Content-Type", ""), GenerateBody)
        name = f"chatcmpl-{_request_id(request)}"
        with self._given_back_when_refused(body):
            check_parameters(body)
            self._check(body.model)
            if self._host.condition.refuses:
                raise overloaded()
            if self._host.condition.drains:
                raise _renderer_is_gone()
            prompt = await self._language.chat_prompt(raw, body.messages)
            generations = self._plan(request, body, [prompt], body.limit_tokens, [name])
        answer = ChatAnswer(name, int(time.time()), self._settings.model, bool(body.return_token_ids))
        return await self._generate(request, body, answer, generations)

    async def _completion(self, request: web.BaseRequest) -> web.StreamResponse:
        body = read_json(await request.read(), request.headers.get("Content-Type", ""), GenerateBody)
        name = f"cmpl-{_request_id(request)}"
        with self._given_back_when_refused(body):
            check_parameters(body)
            self._check(body.model)
            condition = self._host.condition
            if condition.refuses:
                if body.stream:
                    return await _error_in_stream(request, overloaded())
                raise overloaded()
            if condition.drains and b'"' in bytes(body.prompt):
                raise _renderer_is_gone()
            limit = 16 if body.max_tokens is None else body.max_tokens
            prompts = await self._language.prompts(body.prompt)
            names = [f"{name}-{index}" for index in range(len(prompts))]
            generations = self._plan(request, body, prompts, limit, names)
        answer = CompletionAnswer(name, int(time.time()), self._settings.model, bool(body.return_token_ids))
        return await self._generate(request, body, answer, generations)

    async def _generate(
        self, request: web.BaseRequest, body: GenerateBody, answer: Answer, generations: Sequence[Generation]
    ) -> web.StreamResponse:
        """Runs the generations; when the client goes, so do they."""
        await self._prefill_faults(body)
        self._load += 1
        engine = self._settings.engine
        block_size = engine.block_size_tokens
        prompt_tokens = sum(generation.request.prompt_tokens for generation in generations)
        try:
            if delay_s := engine.frontend.delay_s(prompt_tokens):
                await asyncio.sleep(delay_s / self._settings.speed)
            for generation in generations:
                if self._host.condition.drains:
                    generation.end("abort")
                else:
                    self._connector.begin(generation, body.kv_transfer_params)
                    self._driver.submit(generation)
            if body.stream:
                return await write_stream(request, body, answer, generations, block_size)
            return await write_whole(answer, generations, block_size)
        finally:
            self._load -= 1
            for generation in generations:
                self._driver.abort(generation)
                self._connector.left(generation)

    @contextmanager
    def _given_back_when_refused(self, body: GenerateBody) -> Iterator[None]:
        """What another replica keeps for a request that is not even begun here is of no use."""
        try:
            yield
        except VllmError:
            if body.kv_transfer_params is not None:
                self._connector.refused(body.kv_transfer_params)
            raise

    async def _prefill_faults(self, body: GenerateBody) -> None:
        params = body.kv_transfer_params
        if params is not None and params.do_remote_decode:
            await self._host.condition.prefills_go_on.wait()
            if self._host.condition.fails_prefills:
                raise internal_error()

    def _plan(
        self,
        request: web.BaseRequest,
        body: GenerateBody,
        prompts: Sequence[Tokens],
        limit: int | None,
        names: Sequence[str],
    ) -> list[Generation]:
        session_id = body.session_id or request.headers.get("X-Session-ID") or body.extra("session_id")
        changed = asyncio.Event()
        return [
            self._planner.plan(
                body,
                prompt,
                name=name,
                limit=limit,
                priority=_priority(request, body),
                session_id=session_id if isinstance(session_id, str) else None,
                changed=changed,
            )
            for prompt, name in zip(prompts, names, strict=True)
        ]

    async def _models(self, request: web.BaseRequest) -> web.StreamResponse:
        card = {
            "id": self._settings.model,
            "object": "model",
            "created": self._started_s,
            "owned_by": "vllm",
            "root": self._settings.model,
            "parent": None,
            "max_model_len": self._settings.engine.max_model_len_tokens,
        }
        return _json({"object": "list", "data": [card]})

    async def _tokenize(self, request: web.BaseRequest) -> web.StreamResponse:
        raw = await request.read()
        body = read_json(raw, request.headers.get("Content-Type", ""), TokenizeBody)
        self._check(body.model)
        if body.chat_template is not None:
            raise VllmError(
                400,
                "Chat template is passed with request, but --trust-request-chat-template is not set. "
                "Refused request with untrusted chat template.",
            )
        if body.messages:
            tokens = await self._language.chat_prompt(raw, body.messages)
        else:
            tokens = await self._language.text_prompt(body.prompt)
        ids = tokens.tolist()
        texts = [self._language.tokenizer.id_to_token(one) for one in ids] if body.return_token_strs else None
        limit = self._settings.engine.max_model_len_tokens
        return _json({"count": len(ids), "max_model_len": limit, "tokens": ids, "token_strs": texts})

    async def _health(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response()

    async def _version(self, request: web.BaseRequest) -> web.StreamResponse:
        return _json({"version": VERSION})

    async def _server_load(self, request: web.BaseRequest) -> web.StreamResponse:
        return _json({"server_load": self._load})

    async def _prometheus(self, request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(body=self._metrics.text(), headers={"Content-Type": METRICS_TYPE})

    async def _kv_event_sources(self, request: web.BaseRequest) -> web.StreamResponse:
        return _json(self._host.event_sources())

    async def _reset_prefix_cache(self, request: web.BaseRequest) -> web.StreamResponse:
        preempt = request.query.get("reset_running_requests", "").lower() in ("true", "1")
        success = self._driver.engine.reset_prefix_cache(preempt_running=preempt)
        return _json({"success": success})

    async def _fault(self, request: web.BaseRequest) -> web.StreamResponse:
        fault = read_json(await request.read(), request.headers.get("Content-Type", ""), Fault)
        self._host.apply(fault)
        return _json({"applied": fault.kind})

    def _check(self, model: str | None) -> None:
        if model is not None and model != self._settings.model:
            raise unknown_model(model, self._settings.model)


async def _error_in_stream(request: web.BaseRequest, error: VllmError) -> web.StreamResponse:
    response = await open_stream(request)
    await response.write(error_event(error.body()) + DONE)
    await response.write_eof()
    return response


def _renderer_is_gone() -> VllmError:
    return VllmError(500, "cannot schedule new futures after shutdown", kind="InternalServerError")


def _request_id(request: web.BaseRequest) -> str:
    return request.headers.get("X-Request-Id") or uuid.uuid4().hex[:16]


def _priority(request: web.BaseRequest, body: GenerateBody) -> int:
    """The header counts, unless it is no number."""
    try:
        return int(request.headers["X-Vllm-Priority"])
    except (KeyError, ValueError):
        return body.priority


def _json(value: object, *, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, headers=headers, content_type=JSON)
