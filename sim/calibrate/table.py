"""What a calibration found, for a person: how good the fit is, the coefficients, and what could not be learned."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from sim.calibrate.calibrate import Calibration
from sim.calibrate.limits import NAMES
from sim.calibrate.observation import Kind


def table(calibration: Calibration) -> str:
    blocks = (_quality(calibration), _coefficients(calibration), _limits(calibration))
    return "\n\n".join("\n".join(lines) for lines in blocks)


def _quality(calibration: Calibration) -> Iterator[str]:
    yield f"{'fit':<18}{'probes':>8}{'median error':>15}{'largest error':>15}"
    pairs = list(zip(calibration.observations, calibration.fit.errors, strict=True))
    for kind in Kind:
        errors = [error for one, error in pairs if one.kind is kind]
        if errors:
            largest = max(errors, key=abs)
            yield f"{kind:<18}{len(errors):>8}{median(map(abs, errors)):>15.1%}{largest:>+15.1%}"
    yield f"R2 of the logarithms of all times: {calibration.fit.r2:.4f}"


def _coefficients(calibration: Calibration) -> Iterator[str]:
    step, frontend = calibration.fit.step_time, calibration.fit.frontend
    rows = (
        ("fixed", step.fixed_ps / 1e6, "us", "a step"),
        ("prefill_token", step.prefill_token_ps / 1e6, "us", "a prompt token computed"),
        ("attention_pair", step.attention_pair_ps / 1e3, "ns", "a prompt token attending to one before it"),
        ("decode_seq", step.decode_seq_ps / 1e6, "us", "a sequence that decodes"),
        ("context_token", step.context_token_ps / 1e3, "ns", "a token of context read"),
        ("request", frontend.request_ps / 1e6, "us", "a request outside the engine: HTTP, tokens, there and back"),
        ("prompt_token", frontend.prompt_token_ps / 1e3, "ns", "a token of its prompt"),
    )
    for name, value, unit, what in rows:
        yield f"{name:<18}{value:>14,.3f} {unit}  {what}"


def _limits(calibration: Calibration) -> Iterator[str]:
    for name in NAMES:
        yield f"{name:<24}{getattr(calibration.engine, name):>10,}  {calibration.origins[name]}"
