"""The programs' API: declare a graph, look at a program or at all of them, forget one. Each tenant sees its own alone.

PUT, GET and DELETE `/v1/programs/{id}`, GET `/v1/programs?class=&state=&limit=&after=`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import unquote

import msgspec

from router.admin.listing import read_query
from router.core.programs.declare import Declaration, DeclarationError, read_declaration
from router.core.programs.describe import describe, summarise
from router.core.programs.fair import Key
from router.core.programs.program import Program
from router.core.programs.table import SINGLE
from router.core.programs.tracker import Programs
from router.errors import ApiError
from router.hints.settings import IdentitySettings
from router.hints.tenants import granted_priority, tenant_of
from router.hints.values import MAX_NAME_CHARS, MalformedError, name
from router.proxy.ports import LocalRequest, LocalResponse

T = TypeVar("T")

PROGRAMS_PATH = "/v1/programs"
MAX_DECLARATION_BYTES = 4 << 20
_SMALL_BYTES = 32 << 10
_STEP_BYTES = 320
"""A usual step, shown."""
_JSON = [(b"content-type", b"application/json")]


class ProgramsApi:
    """A `LocalTree`. ``clock`` must be the router's."""

    methods: Sequence[str] = ("DELETE", "GET", "PUT")

    def __init__(
        self,
        programs: Programs | None,
        identity: IdentitySettings,
        clock: Callable[[], float],
        declared: Callable[[Key], None] = lambda _: None,
    ) -> None:
        """``programs``: None where they are not followed. ``declared`` hears of each program whose graph was
        declared."""
        self._programs = programs
        self._declared = declared
        self._identity = identity
        self._clock = clock
        self._large = asyncio.Lock()

    async def answer(self, request: LocalRequest) -> LocalResponse:
        """Raises ApiError."""
        programs = self._programs
        if programs is None:
            raise ApiError(404, "This router does not follow programs.", code="programs_disabled")
        key = self._key(request)
        if not key[1]:
            if request.method != "GET":
                raise ApiError(405, f"Name the program: {request.method} {PROGRAMS_PATH}/ID.")
            return self._list(programs, key[0], request.query)
        if request.method == "PUT":
            return await self._declare(programs, key, request.body)
        program = _known(programs, key)
        if request.method == "DELETE":
            programs.forget(key, self._clock())
            return _answer({"id": key[1], "object": "program", "deleted": True})
        return await self._show(program)

    def _key(self, request: LocalRequest) -> Key:
        """The caller's tenant and the program; an empty one stands for all of them."""
        return tenant_of(request.headers, self._identity, Counter()), unquote(request.path[1:])

    async def _declare(self, programs: Programs, key: Key, body: bytes) -> LocalResponse:
        _check_name(key[1])
        if len(body) > MAX_DECLARATION_BYTES:
            raise ApiError(413, f"The graph is longer than {MAX_DECLARATION_BYTES:,} bytes.", code="graph_too_large")
        try:
            declaration = await self._do(partial(_read, body, programs.table.limits.max_steps), len(body))
            priority = granted_priority(declaration.priority, key[0], self._identity)
            declaration = msgspec.structs.replace(declaration, priority=priority)
            is_new, program = await self._do(partial(self._enter, programs, key, declaration), len(body))
        except DeclarationError as error:
            raise ApiError(400, str(error), param=error.place or None, code="invalid_graph") from None
        return await self._show(program, 201 if is_new else 200)

    def _enter(self, programs: Programs, key: Key, declaration: Declaration) -> tuple[bool, Program]:
        is_new = programs.table.get(key) is None
        program = programs.declare(key, declaration, self._clock())
        self._declared(key)
        return is_new, program

    async def _show(self, program: Program, status: int = 200) -> LocalResponse:
        def show() -> LocalResponse:
            return _answer({"object": "program", **describe(program, self._clock())}, status)

        return await self._do(show, len(program.steps) * _STEP_BYTES)

    async def _do(self, work: Callable[[], T], size_bytes: int) -> T:
        """What takes milliseconds goes one at a time, and lets others have their turn before."""
        if size_bytes <= _SMALL_BYTES:
            return work()
        async with self._large:
            await asyncio.sleep(0)
            return work()

    def _list(self, programs: Programs, tenant: str, query: str) -> LocalResponse:
        page = read_query(query).page(programs.table.of(tenant))
        now = self._clock()
        rows = [{"object": "program", **summarise(program, now)} for program in page.programs]
        more = page.next_after is not None
        return _answer({"object": "list", "data": rows, "has_more": more, "next_after": page.next_after})


def _read(body: bytes, max_steps: int) -> Declaration:
    """Raises ApiError, DeclarationError."""
    try:
        document = msgspec.json.decode(body)
    except RecursionError:
        raise ApiError(400, "The graph is nested too deeply.", code="invalid_graph") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ApiError(400, f"The graph is not valid JSON: {error}.", code="invalid_graph") from None
    return read_declaration(document, max_steps)


def _check_name(program: str) -> None:
    """Of one that is declared: calls must be able to name it. Raises ApiError."""
    try:
        if name(program.encode("latin-1", "replace")) == program:
            return
    except MalformedError:
        pass
    message = f"A program's id has up to {MAX_NAME_CHARS} printable ASCII characters and no spaces around them."
    raise ApiError(400, message, param="id", code="invalid_id")


def _known(programs: Programs, key: Key) -> Program:
    """Raises ApiError 404, for another tenant's program too."""
    program = programs.table.get(key)
    if program is None or program.kind == SINGLE:
        raise ApiError(404, f"No program `{key[1]:.{MAX_NAME_CHARS}}` is known.", code="program_not_found")
    return program


def _answer(content: dict[str, Any], status: int = 200) -> LocalResponse:
    return LocalResponse(status, _JSON, msgspec.json.encode(content))
