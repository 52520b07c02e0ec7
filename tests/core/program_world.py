"""A table of programs whose calls are told in a line each, for tests."""

import numpy as np

from router.core.programs.table import ProgramTable
from router.core.rates import FleetRates
from router.core.types import Outcome, ProgramHint, Prompt, Request, Usage

TOKENS_PER_S = 10_000.0
"""Of prefill."""
TOKEN_S = 0.02
"""Of output, before any is learned."""


class World:
    """Calls of program ``p`` of tenant ``t``, unless told otherwise."""

    def __init__(self, **table):
        self.table = ProgramTable(FleetRates(TOKENS_PER_S), **table)
        self.now = 0.0
        self.count = 0

    @property
    def program(self):
        return self.table.get(("t", "p"))

    def come(self, step="", program="p", tenant="t", prompt_tokens=1000, request_id=None, max_tokens=None, **hint):
        """A call with a hint."""
        self.count += 1
        request_id = request_id or f"r{self.count}"
        prompt = Prompt(np.zeros(prompt_tokens, np.uint32))
        given = ProgramHint(program, step, **hint)
        request = Request(request_id, "m", prompt, max_tokens=max_tokens, streams=True, tenant=tenant, program=given)
        return self.table.observe(request, self.now)

    def say_nothing(self, session="p", tenant="t"):
        """A call of which only the session is known."""
        self.count += 1
        return self.table.observe(Request(f"r{self.count}", "m", tenant=tenant, session_id=session), self.now)

    def end(self, step, tokens=100, cached=0, after_s=1.0, outcome=Outcome.OK):
        """The call is sent now and over a while later."""
        self.table.dispatched(step, cached, self.now)
        self.now += after_s
        self.table.ended(step, Usage(step.prompt_tokens, cached, tokens), outcome, self.now)
        return step

    def call(self, *args, tokens=100, **hint):
        """From its coming to its end."""
        return self.end(self.come(*args, **hint), tokens)
