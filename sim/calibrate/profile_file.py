"""Writes a calibration as an engine profile, which ``sim.engine.load_profile`` reads."""

from __future__ import annotations

import yaml

from sim.calibrate.calibrate import Calibration
from sim.calibrate.limits import NAMES


class _Text(str):
    """Lines that stay lines."""


def _as_block(dumper: yaml.SafeDumper, text: _Text) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", str(text), style="|")


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Text, _as_block)


def profile_yaml(calibration: Calibration) -> str:
    engine, fit = calibration.engine, calibration.fit
    document = {
        "model": calibration.model,
        "description": f"{calibration.model}, fitted to a live replica by weft sim calibrate",
        "source": _Text(_source(calibration)),
        **{name: getattr(engine, name) for name in NAMES},
        "step_time": {
            "fixed_us": fit.step_time.fixed_ps / 1e6,
            "prefill_token_us": fit.step_time.prefill_token_ps / 1e6,
            "attention_pair_ns": fit.step_time.attention_pair_ps / 1e3,
            "decode_seq_us": fit.step_time.decode_seq_ps / 1e6,
            "context_token_ns": fit.step_time.context_token_ps / 1e3,
        },
        "frontend": {
            "request_us": fit.frontend.request_ps / 1e6,
            "prompt_token_ns": fit.frontend.prompt_token_ps / 1e3,
        },
    }
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)


def _source(calibration: Calibration) -> str:
    worst = max(abs(error) for error in calibration.fit.errors)
    lines = [
        f"{len(calibration.observations)} kinds of probes, R2 {calibration.fit.r2:.4f} (of logarithms), "
        f"largest error {worst:.0%}.",
        *(f"{name}: {origin}" for name, origin in calibration.origins.items()),
        *(f"Warning: {warning}" for warning in calibration.warnings),
    ]
    return "\n".join(lines) + "\n"
