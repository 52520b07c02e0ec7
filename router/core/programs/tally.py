"""What programs took that are over: completion by class, waits, and what was expected of them at first.

A program counts once, when it is forgotten: some time after its final call, at its client's word, or when it has been
idle for long. One that made room for others while it was not finished does not count.
"""

from __future__ import annotations

from router.core.histogram import Histogram
from router.core.programs.program import Program

MAX_CLASSES = 32
OTHERS = "(other)"
COMPLETION_BOUNDS_S = (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 150.0, 300.0, 600.0, 1800.0, 3600.0, 14400.0)
RATIO_BOUNDS = (0.1, 0.25, 0.5, 0.67, 0.8, 0.9, 1.1, 1.25, 1.5, 2.0, 4.0, 10.0)


class Tally:
    """Since the start."""

    def __init__(self) -> None:
        self.completion_s: dict[str, Histogram] = {}
        """By class, from a program's first sign of life to the end of its last call. The first 32 classes have their
        own, the rest share one."""
        self.waited_s = Histogram()
        """Of all calls of a program together, in the router's queue."""
        self.expected_ratio = Histogram(RATIO_BOUNDS)
        """The remaining path that was expected when the first call came, over the completion that came."""

    def over(self, program: Program) -> None:
        """A program that made a call at least."""
        took_s = program.last_seen_s - program.first_seen_s
        self._of_class(program.kind).observe(took_s)
        self.waited_s.observe(program.waited_s)
        if took_s > 0.0 and program.first_expected_s > 0.0:
            self.expected_ratio.observe(program.first_expected_s / took_s)

    def _of_class(self, kind: str) -> Histogram:
        known = self.completion_s.get(kind)
        if known is None:
            kind = kind if len(self.completion_s) < MAX_CLASSES else OTHERS
            known = self.completion_s.setdefault(kind, Histogram(COMPLETION_BOUNDS_S))
        return known
