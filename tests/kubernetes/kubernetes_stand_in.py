"""An API server as far as Weft uses one: lists and watches of pods and InferencePools, and everything that goes wrong.

It answers what kube-apiserver answers: a label selector turns changes into arrivals and departures, a version that is
too old is an ERROR event with code 410, and refusals carry a Status.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

from aiohttp import web

NAMESPACE = "llm"
READY = [{"type": "Ready", "status": "True"}]
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
POOLS = f"/apis/inference.networking.k8s.io/v1/namespaces/{NAMESPACE}/inferencepools"
OLD_POOLS = f"/apis/inference.networking.x-k8s.io/v1alpha2/namespaces/{NAMESPACE}/inferencepools"

Object = dict[str, Any]


@dataclass
class Change:
    version: int
    path: str
    before: Object | None
    after: Object | None


def pod(name: str, ip: str, labels: dict[str, str] | None = None, **changes: Any) -> Object:
    return {
        "metadata": {"name": name, "labels": {"app": "vllm"} if labels is None else labels},
        "status": {"phase": "Running", "podIP": ip, "conditions": READY},
    } | changes


def not_ready(item: Object) -> Object:
    return item | {"status": item["status"] | {"conditions": [{"type": "Ready", "status": "False"}]}}


def terminating(item: Object) -> Object:
    return item | {"metadata": item["metadata"] | {"deletionTimestamp": "2026-01-01T00:00:30Z"}}


class ApiServer:
    """``async with ApiServer()``. What goes wrong is set by its attributes, and by the methods at the end."""

    def __init__(self) -> None:
        self.url = ""
        self.refuse: dict[str, tuple[int, str]] = {}
        """By path: the status and the body of every answer."""
        self.token = ""
        """The only one that is let in; empty: anybody is."""
        self.piece = 1 << 16
        """Bytes of a watch that are sent at a time."""
        self.requests: list[str] = []
        """``list PATH`` or ``watch PATH``, as they came."""
        self._objects: dict[tuple[str, str], Object] = {}
        self._changes: list[Change] = []
        self._version = 100
        self._floor = 0
        self._watching: set[asyncio.Transport] = set()
        self._moved = asyncio.Condition()

    async def __aenter__(self) -> ApiServer:
        app = web.Application()
        app.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.drop()
        await self._runner.cleanup()

    def objects(self, path: str) -> list[Object]:
        return [item for (of, _), item in self._objects.items() if of == path]

    async def put(self, path: str, *items: Object) -> None:
        for item in items:
            self._version += 1
            key = path, item["metadata"]["name"]
            now = item | {"metadata": item["metadata"] | {"resourceVersion": str(self._version)}}
            self._changes.append(Change(self._version, path, self._objects.get(key), now))
            self._objects[key] = now
        await self._tell()

    async def delete(self, path: str, name: str) -> None:
        self._version += 1
        self._changes.append(Change(self._version, path, self._objects.pop((path, name)), None))
        await self._tell()

    async def drop(self) -> None:
        """Every watch ends, in the middle of a line if it happens to be there."""
        for transport in self._watching:
            transport.abort()
        self._watching.clear()
        await self._tell()

    async def compact(self) -> None:
        """Nothing that has happened so far can be watched any more, also not by those who are connected."""
        self._floor = self._version
        await self.drop()

    async def _tell(self) -> None:
        async with self._moved:
            self._moved.notify_all()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path, query = request.path, request.query
        self.requests.append(f"{'watch' if 'watch' in query else 'list'} {path}")
        if self.token and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _status(401, "Unauthorized")
        if path in self.refuse:
            status, message = self.refuse[path]
            return _status(status, message)
        if path not in (PODS, POOLS, OLD_POOLS):
            return web.Response(status=404, text="404 page not found\n")
        if "watch" not in query:
            items = [item for item in self.objects(path) if _matches(item, request)]
            return web.json_response({"metadata": {"resourceVersion": str(self._version)}, "items": items})
        return await self._watch(request)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        await stream.prepare(request)
        version = int(request.query["resourceVersion"])
        if version < self._floor:
            await self._send(stream, "ERROR", {"code": 410, "message": f"too old resource version: {version}"})
            return stream
        transport = request.transport
        assert transport is not None
        self._watching.add(transport)
        try:
            while transport in self._watching:
                for change in [change for change in self._changes if change.version > version]:
                    await self._send_change(stream, request, change)
                    version = change.version
                async with self._moved:
                    if version == self._version and transport in self._watching:
                        await self._moved.wait()
        except ConnectionError:
            pass
        finally:
            self._watching.discard(transport)
        return stream

    async def _send_change(self, stream: web.StreamResponse, request: web.Request, change: Change) -> None:
        if change.path != request.path:
            await self._send(stream, "BOOKMARK", {"metadata": {"resourceVersion": str(change.version)}})
            return
        was = change.before is not None and _matches(change.before, request)
        if change.after is not None and _matches(change.after, request):
            await self._send(stream, "MODIFIED" if was else "ADDED", change.after)
        elif was:
            gone = dict(change.before or {})
            gone["metadata"] = gone["metadata"] | {"resourceVersion": str(change.version)}
            await self._send(stream, "DELETED", gone)

    async def _send(self, stream: web.StreamResponse, kind: str, item: Object) -> None:
        line = json.dumps({"type": kind, "object": item}).encode() + b"\n"
        for start in range(0, len(line), self.piece):
            await stream.write(line[start : start + self.piece])
            await asyncio.sleep(0)


def _matches(item: Object, request: web.Request) -> bool:
    """Knows equalities only."""
    labels = item["metadata"].get("labels", {})
    wanted = [part.partition("=") for part in request.query.get("labelSelector", "").split(",") if part]
    name = request.query.get("fieldSelector", "").removeprefix("metadata.name=")
    return all(labels.get(key) == value for key, _, value in wanted) and name in ("", item["metadata"]["name"])


def _status(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "status": "Failure", "message": message, "code": code}, status=code)
