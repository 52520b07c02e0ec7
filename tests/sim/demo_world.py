"""A small real server that answers the demo's client, and remembers what it was sent."""

import asyncio
import contextlib
import json

from aiohttp import web


def sse(event):
    return b"data: " + (event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n\n"


def delta(content, finish_reason=None):
    return {"choices": [{"index": 0, "delta": {"content": content}, "finish_reason": finish_reason}]}


USAGE = {
    "choices": [],
    "usage": {"prompt_tokens": 40, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 32}},
}
WHOLE = [delta(""), delta("Hel"), delta("lo", "length"), USAGE, b"[DONE]"]


class Server:
    """Answers every chat completion with ``events``, or with ``status``, once ``awaited`` of them are there."""

    def __init__(self):
        self.events = WHOLE
        self.status = 200
        self.bodies = []
        self.headers = []
        self.awaited = 1
        self.enough = asyncio.Event()

    async def chat(self, request):
        self.bodies.append(await request.json())
        self.headers.append({name.lower(): value for name, value in request.raw_headers})
        if len(self.bodies) >= self.awaited:
            self.enough.set()
        await self.enough.wait()
        if self.status != 200:
            return web.json_response({"error": {"message": "no healthy replica"}}, status=self.status)
        response = web.StreamResponse()
        await response.prepare(request)
        for event in self.events:
            await response.write(sse(event))
        return response


@contextlib.asynccontextmanager
async def serving(server):
    """Its base URL."""
    app = web.Application()
    app.router.add_post("/v1/chat/completions", server.chat)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()
