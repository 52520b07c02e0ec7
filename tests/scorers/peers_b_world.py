"""Replicas whose loads are set by hand, and prompts of letters, each of which stands for one chunk of tokens."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from router.core.fleet import Fleet
from router.core.load import Load
from router.core.scheduler import DispatchObserver, Scorer
from router.core.types import Prompt, ReplicaSpec, Request
from router.core.view import Candidates, View

TEXTS = st.text("ab", min_size=1, max_size=6)


class PeerWorld:
    def __init__(self, replicas: int, chunk_tokens: int) -> None:
        self.fleet, self.load, self.now = Fleet(), Load(), 0.0
        self.chunk_tokens = chunk_tokens
        for number in range(replicas):
            self.load.reset(self.fleet.put(spec(str(number))), capacity_tokens=1000)

    def set_loads(self, running: Sequence[int], waiting: Sequence[int] = (), kv_usage: Sequence[float] = ()) -> None:
        count = len(self.fleet)
        self.load.started[:count] = running
        self.load.queued[:count] = waiting or 0
        self.load.kv_usage[:count] = kv_usage or 0.0

    def request(self, text: str, session: str = "") -> Request:
        letters = np.array([ord(letter) for letter in text], np.uint32)
        return Request("r", "m", Prompt(np.repeat(letters, self.chunk_tokens)), session_id=session)

    def candidates(self) -> Candidates:
        return Candidates(self.fleet.slots, self.fleet, np.zeros((4, len(self.fleet))))

    def scores(self, scorer: Scorer, text: str, session: str = "") -> list[float]:
        view = View(self.load, self.fleet.slots, self.now)
        scores: list[float] = scorer.score(self.request(text, session), self.candidates(), view).tolist()
        assert all(0.0 <= score <= 1.0 for score in scores)
        return scores

    def best(self, scorer: Scorer, text: str, session: str = "") -> set[int]:
        """Positions among which the picker draws."""
        scores = self.scores(scorer, text, session)
        return {position for position, score in enumerate(scores) if score == max(scores)}

    def send(self, scorer: Scorer, text: str, position: int, session: str = "") -> None:
        assert isinstance(scorer, DispatchObserver)
        scorer.dispatched(self.request(text, session), self.candidates(), position, self.now)


def spec(name: str) -> ReplicaSpec:
    return ReplicaSpec(name=name, url=f"http://{name}", models=("m",))


def common_prefix(one: str, other: str) -> int:
    return next(
        (at for at, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), min(len(one), len(other))
    )


def longest_match(text: str, sent: Sequence[str]) -> int:
    """Letters from the start of the text that were sent before."""
    return max((common_prefix(text, other) for other in sent), default=0)


def least(candidates: Sequence[int], amounts: Sequence[float]) -> set[int]:
    """Those of the candidates whose amount is the least."""
    low = min(amounts[each] for each in candidates)
    return {each for each in candidates if amounts[each] == low}
