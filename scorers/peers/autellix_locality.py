"""Autellix's choice of an engine: short calls where there is least to do, long ones where their program is.

Algorithm 2 of Autellix (arXiv:2502.13965; Crystalclear9/Autellix, autellix/core/load_balancer.py, commit 65e22bc): a
call of up to 2,048 prompt tokens goes to the engine with the fewest calls, waiting and running; a longer one to the
engine of its program, which is the one with the fewest calls when the program's first long call comes.

Programs are forgotten in the order of their last long call when there are too many. A pin to a replica that may not
serve the request is made anew.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from router.core.types import Request, Scores
from router.core.view import Candidates, View
from scorers.scale import fewest_best


class AutellixLocality:
    name = "autellix-locality"

    def __init__(self, token_threshold: int = 2048, max_programs: int = 100_000) -> None:
        self.token_threshold = token_threshold
        self.max_programs = max_programs
        self._pins: OrderedDict[tuple[str, str], str] = OrderedDict()

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        if request.prompt_tokens > self.token_threshold:
            pin = self._pins.get(request.program_key)
            pinned = np.array([float(replica.name == pin) for replica in candidates.replicas])
            if pinned.any():
                return pinned
        return fewest_best(view.queued_requests + view.running_requests)

    def dispatched(self, request: Request, candidates: Candidates, position: int, now: float) -> None:
        if request.prompt_tokens <= self.token_threshold:
            return
        self._pins[request.program_key] = candidates.replicas[position].name
        self._pins.move_to_end(request.program_key)
        while len(self._pins) > self.max_programs:
            self._pins.popitem(last=False)
