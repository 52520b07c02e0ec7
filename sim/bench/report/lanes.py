"""Which row of a Gantt chart each step of a program stands in, from the graph alone: equal under every policy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def lanes(after: Mapping[str, Sequence[str]]) -> dict[str, int]:
    """A lane for each step, from 0 on. ``after`` names the steps that each follows, which come before it.

    A step goes on in the lane of a step that it follows; else in the first lane whose last step had to end before it,
    so that nothing in a lane can overlap; else it opens a lane.
    """
    before: dict[str, set[str]] = {}
    lane_of: dict[str, int] = {}
    last: list[str] = []
    for step, followed in after.items():
        known = [name for name in followed if name in lane_of]
        before[step] = {ancestor for name in known for ancestor in (name, *before[name])}
        free = [lane for lane, name in enumerate(last) if name in before[step]]
        own = [lane_of[name] for name in known if last[lane_of[name]] == name]
        lane = min(own or free, default=len(last))
        if lane == len(last):
            last.append(step)
        last[lane] = step
        lane_of[step] = lane
    return lane_of
