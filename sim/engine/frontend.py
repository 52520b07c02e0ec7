"""What a replica does with a request before its engine sees it: HTTP, JSON, tokens, the way to the engine's process."""

from __future__ import annotations

from dataclasses import dataclass

from sim.engine.step_time import PS_PER_S


@dataclass(slots=True, frozen=True)
class Frontend:
    """Coefficients in picoseconds. A delay, not a queue: requests on their way do not wait for each other.

    The way back, from a token's step to the client's socket, is in here too: seen from outside they are one.
    """

    request_ps: int = 0
    prompt_token_ps: int = 0

    def delay_s(self, prompt_tokens: int) -> float:
        return (self.request_ps + prompt_tokens * self.prompt_token_ps) / PS_PER_S
