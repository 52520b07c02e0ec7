"""How long KV blocks take from one replica to another, learned from the answers that begin after it.

Between the end of a prefill leg and the first byte of the answer lie the transfer and one step of the decode replica:
``seconds = overhead + bytes / bandwidth``, both parameters of the line learned for each `Distance`, over all models. A
model's bytes per token are told; where they are wrong, the learned bandwidth is wrong by the same factor, and the
seconds are right.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from router.core.disaggregation.topology import Distance
from router.core.line import Line
from router.core.load import Column

PRIOR_BYTES_PER_S: Mapping[Distance, float] = {
    Distance.NODE: 100e9,
    Distance.RACK: 25e9,
    Distance.ZONE: 12.5e9,
    Distance.FAR: 2.5e9,
    Distance.UNKNOWN: 12.5e9,
}
"""Before anything was seen: NVLink or shared memory, 200 and 100 Gbit/s, and a shared 20 Gbit/s."""

PRIOR_OVERHEAD_S = 0.02
"""Before anything was seen: the exchange of addresses and a step of the decode replica."""

LLAMA_8B_BYTES_PER_TOKEN = 131_072
"""32 layers, 8 KV heads of 128, keys and values of 2 bytes. Stands in for a model of which nothing is told."""


@dataclass(slots=True)
class Transfers:
    """Seconds for a model's tokens over a distance."""

    bytes_per_token: Mapping[str, int] = field(default_factory=dict)
    """By base model; ``*`` stands for all others."""
    lines: dict[Distance, Line] = field(default_factory=lambda: {each: Line() for each in Distance})

    def seconds(self, tokens: Column, model: str, distances: NDArray[np.intp]) -> Column:
        """For so many tokens over each of ``distances``."""
        overheads, slopes = np.array([self._line(each) for each in Distance]).T
        taken: Column = overheads[distances] + tokens * self._bytes_per_token(model) * slopes[distances]
        return taken

    def observe(self, tokens: int, model: str, distance: Distance, seconds: float) -> None:
        """An answer began ``seconds`` after its prefill leg had ended, with ``tokens`` to fetch before it."""
        self.lines[distance].observe(tokens * self._bytes_per_token(model), seconds)

    def bandwidth_bytes_per_s(self, distance: Distance) -> float | None:
        """Learned; None: not yet."""
        line = self.lines[distance]
        return 1.0 / line.slope() if line.known else None

    def _line(self, distance: Distance) -> tuple[float, float]:
        """Seconds, and seconds for each byte."""
        line = self.lines[distance]
        return (line.intercept(), line.slope()) if line.known else (PRIOR_OVERHEAD_S, 1.0 / PRIOR_BYTES_PER_S[distance])

    def _bytes_per_token(self, model: str) -> int:
        return self.bytes_per_token.get(model) or self.bytes_per_token.get("*") or LLAMA_8B_BYTES_PER_TOKEN
