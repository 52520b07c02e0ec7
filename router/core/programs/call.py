"""What may be asked of a call without making a step of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from router.core.programs.history import ClassHistory
    from router.core.programs.sketch import Sketch
    from router.core.programs.step import Step


class Call(Protocol):
    """A step, or what may become one."""

    @property
    def output_tokens(self) -> float:
        """Expected until it is over."""

    @property
    def final(self) -> bool:
        """No further call of its program is expected."""

    @property
    def step(self) -> Step:
        """Its place in its program, made when nobody has asked before."""

    @property
    def is_step(self) -> bool:
        """Whether it has that place already."""

    def waits_s(self) -> Sketch:
        """Of calls like it, the times from what they followed to their coming."""


class Answered(Protocol):
    """A call that ended well, as far as there is something to learn from it."""

    @property
    def history(self) -> ClassHistory: ...
    @property
    def kind(self) -> str: ...
    @property
    def prompt_tokens(self) -> int: ...
    @property
    def cached_tokens(self) -> int: ...
    @property
    def max_tokens(self) -> int | None: ...
    @property
    def hinted_tokens(self) -> int | None: ...
    @property
    def usual_tokens(self) -> float: ...
    @property
    def started_s(self) -> float | None: ...
    @property
    def ended_s(self) -> float | None: ...
