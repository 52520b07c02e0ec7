"""Is the beginning of an answer the beginning of a real answer?

vLLM can say 200 and mean no: a stream whose first event is an error, or, from a replica that is shutting down, an
answer without text that ends with ``abort``, or a stream that is over before it had a choice. As long as the client
has seen nothing another replica can be asked, so the first bytes are held back until they are known to be an answer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

import msgspec

from router.core.types import Outcome
from router.errors import ApiError
from router.proxy.heads import ResponseHead

RETRIED_STATUSES = (500, 502, 503, 504)
_EVENT_END = re.compile(rb"\r?\n\r?\n")
_PREAMBLES = frozenset({"message_start", "ping", "response.created", "response.queued", "response.in_progress"})
"""Events that are sent before anything was computed."""


class Undecided(Enum):
    """What a look answers when the answer is not refused."""

    HOLD = "hold"
    """Nothing seen yet that tells."""
    PASS = "pass"
    """It is an answer."""
    AGAIN = "again"
    """The replica takes no priorities. Without one it would have answered."""


@dataclass(slots=True, frozen=True)
class Refused:
    """The replica did not answer. ``error`` is what the client is told when no other replica does."""

    outcome: Outcome
    error: ApiError


Verdict = Undecided | Refused


class Look(Protocol):
    def judge(self, payload: bytearray, final: bool) -> Verdict:
        """``payload`` is all of the body so far. ``final``: no more will be shown, so it must not be HOLD."""


def look_at(head: ResponseHead, hold_bytes: int, priority: int | None = None) -> Look | None:
    """How to look at the body behind ``head``; None when the answer can be passed on at once.

    ``priority`` is what was sent along.
    """
    if head.status in RETRIED_STATUSES:
        return FailureLook(head)
    if head.status == 400 and priority:
        return PriorityLook()
    if head.status != 200:
        return None
    if head.content_type == b"text/event-stream":
        return EventLook()
    if head.content_type == b"application/json" and (head.length or 0) <= hold_bytes:
        return JsonLook()
    return None


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    text: str | None = None
    delta: dict[str, Any] = {}
    message: dict[str, Any] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing was generated: a role and empty fields only."""
        generated = self.delta or self.message
        return not self.text and not any(value for key, value in generated.items() if key != "role")


class _Answer(msgspec.Struct):
    """A whole answer, or one event of a stream."""

    choices: list[_Choice] | None = None
    error: msgspec.Raw = msgspec.Raw()
    type: str = ""


class _Error(msgspec.Struct):
    message: str = "The replica did not say why it failed."
    type: str = "server_error"
    code: int | str | None = None


_answers = msgspec.json.Decoder(_Answer)
_errors = msgspec.json.Decoder(_Error)


class JsonLook:
    """An unstreamed answer: only complete can it be told whether it is one."""

    __slots__ = ()

    def judge(self, payload: bytearray, final: bool) -> Verdict:
        if not final:
            return Undecided.HOLD
        if b'"abort"' not in payload:
            return Undecided.PASS
        verdict = _judge(payload)
        return Undecided.PASS if verdict is Undecided.HOLD else verdict


class EventLook:
    """A stream: the first event that carries anything decides. Comments do too: someone waits for them."""

    __slots__ = ("_seen",)

    def __init__(self) -> None:
        self._seen = 0

    def judge(self, payload: bytearray, final: bool) -> Verdict:
        while match := _EVENT_END.search(payload, self._seen):
            verdict = _judge_event(payload[self._seen : match.start()])
            if verdict is not Undecided.HOLD:
                return verdict
            self._seen = match.end()
        return Undecided.PASS if final else Undecided.HOLD


class FailureLook:
    """A status that another replica may not have. The body is kept in case all of them do."""

    __slots__ = ("_head",)

    def __init__(self, head: ResponseHead) -> None:
        self._head = head

    def judge(self, payload: bytearray, final: bool) -> Verdict:
        if not final:
            return Undecided.HOLD
        try:
            error = _answers.decode(payload).error
        except msgspec.DecodeError:
            error = msgspec.Raw()
        return _refused(self._head.status, error)


class PriorityLook:
    """An answer that says that something was wrong: was it the priority?

    vLLM 0.8 says "Got priority 1 but Priority scheduling is not enabled."; 0.32 ignores a priority that it cannot use.
    """

    __slots__ = ()

    def judge(self, payload: bytearray, final: bool) -> Verdict:
        if not final:
            return Undecided.HOLD
        return Undecided.AGAIN if b"priority scheduling" in payload.lower() else Undecided.PASS


def _judge_event(event: bytearray) -> Verdict:
    if event.startswith(b":"):
        return Undecided.PASS
    data_at = 0 if event.startswith(b"data:") else event.find(b"\ndata:") + 1
    data = event[data_at + 5 :]
    return _SHUTTING_DOWN if data.strip() == b"[DONE]" else _judge(data)


def _judge(data: bytearray) -> Verdict:
    try:
        answer = _answers.decode(data)
    except msgspec.DecodeError:
        return Undecided.PASS
    if bytes(answer.error) not in (b"", b"null"):
        refused = _refused(0, answer.error)
        return refused if refused.error.status >= 500 else Undecided.PASS
    if answer.type in _PREAMBLES:
        return Undecided.HOLD
    if answer.choices is None or not all(choice.is_empty for choice in answer.choices):
        return Undecided.PASS
    if any(choice.finish_reason == "abort" for choice in answer.choices):
        return _SHUTTING_DOWN
    if any(choice.finish_reason is not None for choice in answer.choices):
        return Undecided.PASS
    return Undecided.HOLD


def _refused(status: int, raw: msgspec.Raw) -> Refused:
    """``status`` 0: the error's own code counts, and 500 when it has none."""
    try:
        error = _errors.decode(raw)
    except msgspec.DecodeError:
        error = _Error()
    status = status or (error.code if isinstance(error.code, int) and 400 <= error.code < 600 else 500)
    if status == 503:
        return Refused(Outcome.REJECTED, overloaded(error.message))
    return Refused(Outcome.FAILED, ApiError(status, error.message, type=error.type))


def overloaded(reason: str) -> ApiError:
    """Every replica that was asked was like this one: 503; whoever answers adds Retry-After."""
    return ApiError(
        503, f"No replica could take the request now: {reason}", type="service_unavailable", code="overloaded"
    )


_SHUTTING_DOWN = Refused(Outcome.REJECTED, overloaded("The replica is shutting down."))
