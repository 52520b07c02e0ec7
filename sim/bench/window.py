"""The part of a run whose times count: without the beginning, on an empty fleet, and the end, when nothing follows."""

from __future__ import annotations

from sim.cluster import Run


def middle(run: Run, warm_up: float, cool_down: float) -> Run:
    """The programs that came after a share ``warm_up`` of all and before a share ``cool_down``, and their calls.

    At least one program is left; ties keep the order of the programs' names.
    """
    arrived = sorted(run.programs, key=lambda record: (record.started_s, record.program.id))
    count = len(arrived)
    first = min(round(warm_up * count), count - 1)
    end = max(first + 1, count - round(cool_down * count))
    kept = {record.program.id for record in arrived[first:end]}
    return Run(
        calls=[call for call in run.calls if call.program.id in kept],
        programs=[record for record in run.programs if record.program.id in kept],
    )
