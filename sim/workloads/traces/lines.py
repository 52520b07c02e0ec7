"""Trace files line by line: plain or gzipped, bad lines counted and passed over."""

from __future__ import annotations

import gzip
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from sim.workloads.program import Program

Tokens = Annotated[int, msgspec.Meta(ge=0, le=100_000_000)]
Time = Annotated[float, msgspec.Meta(ge=0, le=1e18)]
BlockId = Annotated[int, msgspec.Meta(ge=0, le=2**32)]

Row = TypeVar("Row")


@dataclass(slots=True)
class Trace:
    programs: list[Program] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    """What was not used, by reason."""

    def __str__(self) -> str:
        requests = sum(len(program.steps) for program in self.programs)
        line = f"{len(self.programs)} programs, {requests} requests"
        reasons = ", ".join(f"{count} x {reason}" for reason, count in self.skipped.most_common())
        return f"{line}; skipped: {reasons}" if reasons else line


def read_rows(path: Path, kind: type[Row], skipped: Counter[str]) -> Iterator[Row]:
    """Rows of a JSON-lines file. Raises ValueError when there is no such file."""
    decoder = msgspec.json.Decoder(kind)
    reasons: dict[str, str] = {}
    for number, line in enumerate(_lines(path, skipped), start=1):
        if not line.strip():
            continue
        try:
            row = decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            reason = reasons.setdefault(str(error), f"bad line ({error}), first in line {number}")
            skipped[reason] += 1
        else:
            yield row


def _lines(path: Path, skipped: Counter[str]) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if packed else path.open("rb") as lines:
            yield from lines
    except (EOFError, zlib.error, gzip.BadGzipFile):
        skipped["rest of a damaged gzip file"] += 1
    except OSError as error:
        raise ValueError(f"cannot read trace {path}: {error.strerror}") from error
