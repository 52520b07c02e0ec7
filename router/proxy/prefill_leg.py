"""The prefill leg of a request: a replica is asked to compute its prompt, and its whole answer is wanted."""

from __future__ import annotations

from dataclasses import dataclass, replace

from router.core.types import Decision, Outcome, ReplicaSpec, Ticket, Usage
from router.engine.kv_transfer.connector import Directory, HandOverError
from router.proxy.collect import WholeAnswer, collect
from router.proxy.first_look import Refused, Undecided, look_at
from router.proxy.headers import upstream_head
from router.proxy.heads import HttpRequest
from router.proxy.origin import Origin
from router.proxy.proxy import Proxy
from router.proxy.usage import find_usage

_NOT_THE_REQUEST = (408, 429)
"""Client errors that say nothing of the request itself."""


@dataclass(slots=True, frozen=True)
class Prefilled:
    """What a prefill replica answered."""

    answer: bytes
    usage: Usage | None


class LegFailedError(Exception):
    """``is_final``: an error about the request, which other prefill replicas would see in it too."""

    def __init__(self, outcome: Outcome, reason: str, is_final: bool = False) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.is_final = is_final


async def run_prefill_leg(proxy: Proxy, request: HttpRequest, leg: Ticket, body: bytes) -> Prefilled:
    """Asks the replica of ``leg``, once more where it takes no priorities. Raises LegFailedError."""
    if leg.decision is None:
        raise ValueError("a leg that was routed has a decision")
    priority = proxy.priorities.of(leg.request, leg.decision)
    answer = await _ask(proxy, request, leg.decision, body, priority)
    if _refuses_priority(answer, priority):
        answer = await _ask(proxy, request, leg.decision, body, 0)
        if answer.head.status == 200:
            proxy.stats.priorities_refused += 1
            proxy.priorities.refused_by(leg.decision.replica.name)
    _check(answer)
    return Prefilled(answer.body, find_usage(answer.body))


async def look_up(proxy: Proxy, directory: Directory | None, prefill: ReplicaSpec) -> None:
    """Lets the connector learn what it must know of ``prefill``. Raises LegFailedError."""
    if directory is None:
        return
    limits = proxy.limits
    try:
        url = directory.url_of(prefill)
        if url is None:
            return
        answer = await collect(
            proxy, url, _get, b"", timeout_s=limits.connect_timeout_s, max_bytes=limits.prefill_answer_bytes
        )
        directory.learn(prefill, answer.body)
    except TimeoutError:
        raise LegFailedError(Outcome.TIMEOUT, "its bootstrap server did not answer in time") from None
    except (OSError, ValueError) as error:
        raise LegFailedError(Outcome.FAILED, f"its bootstrap server: {error}") from error
    except HandOverError as error:
        raise LegFailedError(Outcome.REJECTED, str(error)) from error


def _get(origin: Origin) -> bytes:
    return b"GET %s HTTP/1.1\r\nhost: %s\r\n\r\n" % (origin.base_path, origin.authority)


async def _ask(
    proxy: Proxy, request: HttpRequest, decision: Decision, body: bytes, priority: int | None
) -> WholeAnswer:
    limits, replica = proxy.limits, decision.replica
    plain = replace(request, headers=[item for item in request.headers if item[0] != b"accept-encoding"])

    def head(origin: Origin) -> bytes:
        return upstream_head(plain, origin, replica.rank, priority, len(body))

    try:
        return await collect(
            proxy,
            replica.url,
            head,
            body,
            timeout_s=limits.prefill_timeout_s,
            max_bytes=limits.prefill_answer_bytes,
        )
    except TimeoutError:
        raise LegFailedError(Outcome.TIMEOUT, f"{replica.name} did not answer in time") from None
    except (OSError, ValueError) as error:
        raise LegFailedError(Outcome.FAILED, f"{replica.name}: {error}") from error


def _refuses_priority(answer: WholeAnswer, priority: int | None) -> bool:
    if answer.head.status != 400:
        return False
    look = look_at(answer.head, 0, priority)
    return look is not None and look.judge(bytearray(answer.body), True) is Undecided.AGAIN


def _check(answer: WholeAnswer) -> None:
    """Raises LegFailedError unless it is an answer.

    An error about the request is for the decode replica to tell the client: it may stem from what makes the leg a leg,
    or from how this one replica was started.
    """
    head = answer.head
    look = look_at(head, len(answer.body))
    verdict = None if look is None else look.judge(bytearray(answer.body), True)
    if isinstance(verdict, Refused):
        raise LegFailedError(verdict.outcome, verdict.error.message)
    if head.status != 200:
        is_final = 400 <= head.status < 500 and head.status not in _NOT_THE_REQUEST
        raise LegFailedError(Outcome.REJECTED, f"status {head.status}", is_final)
