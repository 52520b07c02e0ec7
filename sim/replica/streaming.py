"""Writes the answer of generations under way, as a stream of events or whole."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from aiohttp import web

from sim.replica.answers import DONE, Answer, Delta, error_event, running_usage
from sim.replica.body import GenerateBody, StreamOptions
from sim.replica.errors import internal_error
from sim.replica.generation import Generation

JSON = "application/json"
EVENT_STREAM = "text/event-stream; charset=utf-8"


async def open_stream(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": EVENT_STREAM})
    await response.prepare(request)
    return response


async def write_stream(
    request: web.BaseRequest,
    body: GenerateBody,
    answer: Answer,
    generations: Sequence[Generation],
    block_size_tokens: int,
) -> web.StreamResponse:
    """Send each token as it comes. Tokens that come faster than they are sent share a chunk.

    What fails fails within the stream, whose status has been sent by then.
    """
    options = body.stream_options or StreamOptions()
    continuous = bool(options.continuous_usage_stats and options.include_usage)
    response = await open_stream(request)
    opening = answer.opening(generations[0].request.prompt_tokens, continuous_usage=continuous)
    async for index, first, end, reason in _progress(generations):
        generation = generations[index]
        delta = Delta(
            index,
            "".join(generation.texts[first:end]),
            generation.output[first:end].tolist() if body.return_token_ids else None,
            reason,
            running_usage(generation.request.prompt_tokens, end) if continuous else None,
            fingerprint=reason is not None and not options.include_usage,
        )
        await response.write(opening + answer.chunk(delta))
        opening = b""
    if _has_failed(generations):
        await response.write(error_event(internal_error().body()) + DONE)
        await response.write_eof()
        return response
    closing = answer.last_chunk(generations, block_size_tokens) if options.include_usage else b""
    await response.write(opening + closing + DONE)
    await response.write_eof()
    return response


async def write_whole(answer: Answer, generations: Sequence[Generation], block_size_tokens: int) -> web.StreamResponse:
    """Raises VllmError when a generation has failed."""
    for generation in generations:
        await generation.ended()
    if _has_failed(generations):
        raise internal_error()
    return web.Response(body=answer.whole(generations, block_size_tokens), content_type=JSON)


def _has_failed(generations: Sequence[Generation]) -> bool:
    return any(generation.finish_reason == "error" for generation in generations)


async def _progress(generations: Sequence[Generation]) -> AsyncIterator[tuple[int, int, int, str | None]]:
    """(choice, first token, end, finish_reason) of what is new, until all have ended.

    As in vLLM there is nothing, not even a finish_reason, for a choice that ends without a token.
    """
    changed = generations[0].changed
    seen = [0] * len(generations)
    going = set(range(len(generations)))
    while going:
        changed.clear()
        for index in sorted(going):
            generation = generations[index]
            first, end, reason = seen[index], generation.emitted, generation.finish_reason
            if end > first or (first and reason is not None):
                seen[index] = end
                yield index, first, end, reason
            if reason is not None:
                going.remove(index)
        if going:
            await changed.wait()
