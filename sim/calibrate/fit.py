"""Fits the engine model's coefficients to what was observed.

Each observation is a sum of the terms of ``StepTime`` and, where it began at the client, of ``Frontend``: linear in
the coefficients, none of which can be negative. What counts is the relative error, lest the longest prompt decide
alone, and outliers count less the further out they are: Huber's weights, by iteratively reweighted least squares
(P. J. Huber, Robust Statistics, 1981, chapter 7).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.calibrate.observation import Observation
from sim.engine import Frontend, StepTime
from sim.engine.step_time import PS_PER_S

Floats = NDArray[np.float64]

HUBER = 1.345
"""In standard deviations: 95 % of the efficiency of least squares where errors are normal."""
ROUNDS = 30


@dataclass(slots=True, frozen=True)
class Fit:
    step_time: StepTime
    frontend: Frontend
    expected_s: list[float]
    """What the model says of each observation."""
    errors: list[float]
    """(expected - observed) / observed, for each observation."""
    r2: float
    """Of the logarithms of the times: 1 is perfect, and short times count as much as long ones."""


def fit(observations: list[Observation]) -> Fit:
    """Raises ValueError when there are fewer observations than coefficients."""
    rows = np.array([_row(observation) for observation in observations], np.float64)
    if len(observations) < rows.shape[-1]:
        raise ValueError(f"{len(observations)} observations do not determine {rows.shape[-1]} coefficients")
    observed = np.array([observation.duration_s for observation in observations])
    relative = rows / observed[:, None]
    coefficients = _robust(relative, np.ones(len(observed)))
    expected = rows @ coefficients
    way, way_token, fixed, prefill_token, pair, seq, context = (round(one * PS_PER_S) for one in coefficients.tolist())
    return Fit(
        StepTime(max(fixed, 1), prefill_token, pair, seq, context),
        Frontend(way, way_token),
        expected.tolist(),
        (expected / observed - 1).tolist(),
        _r2(np.log(observed), np.log(np.maximum(expected, 1e-9))),
    )


def _row(observation: Observation) -> list[float]:
    work, prompt = observation.work, observation.prompt_tokens
    way = [0.0, 0.0] if prompt is None else [1.0, prompt]
    return [
        *way,
        observation.steps,
        work.prefill_tokens,
        work.attention_pairs,
        work.decode_seqs,
        work.context_tokens,
    ]


def _robust(rows: Floats, target: Floats) -> Floats:
    weights = np.ones(len(target))
    coefficients = _non_negative(rows, target)
    for _ in range(ROUNDS):
        errors = np.abs(rows @ coefficients - target)
        sigma = max(1.4826 * float(np.median(errors)), 1e-9)
        weights = np.sqrt(np.minimum(1.0, HUBER * sigma / np.maximum(errors, 1e-12)))
        coefficients = _non_negative(rows * weights[:, None], target * weights)
    return coefficients


def _non_negative(rows: Floats, target: Floats) -> Floats:
    """Least squares; whatever comes out most negative is taken for zero, and the rest is solved again."""
    columns = list(range(rows.shape[1]))
    scales = np.maximum(np.linalg.norm(rows, axis=0), 1e-300)
    solution = np.zeros(rows.shape[1])
    while columns:
        found = np.linalg.lstsq((rows / scales)[:, columns], target, rcond=None)[0]
        worst = int(np.argmin(found))
        if found[worst] >= 0:
            solution[columns] = found / scales[columns]
            break
        del columns[worst]
    return solution


def _r2(observed: Floats, expected: Floats) -> float:
    spread = float(np.sum((observed - observed.mean()) ** 2))
    return 1.0 - float(np.sum((observed - expected) ** 2)) / spread if spread else 1.0
