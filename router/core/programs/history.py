"""What is known of programs of a class from those that ran before: answers, prompts, tool waits and lengths.

It is kept per tenant and class, and there per kind of step: the step's class where it is declared, as the name of an
agent or a tool, else its name with numbers left out, so that ``turn-17`` is judged by all turns.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from dataclasses import dataclass, field

from router.core.programs.fair import FairTable
from router.core.programs.lengths import Lengths
from router.core.programs.sketch import FADE, Sketch

_FEW = 3.0
"""With fewer observations than these, the next wider circle is asked."""
_MAX_KINDS = 32
_DIGITS = re.compile(r"\d+")


def kind_of(step_name: str) -> str:
    """The name without its numbers."""
    return _DIGITS.sub("#", step_name)


@dataclass(slots=True)
class Mean:
    """Of values that fade out."""

    observations: float = 0.0
    """How many values it rests on: all of the first ones, at most 1 / (1 - FADE) later."""
    sum: float = 0.0

    def add(self, value: float) -> None:
        self.observations = self.observations * FADE + 1.0
        self.sum = self.sum * FADE + value

    @property
    def known(self) -> bool:
        return self.observations >= _FEW

    def mean(self) -> float:
        """0 when there is no value."""
        return self.sum / self.observations if self.observations else 0.0


@dataclass(slots=True)
class Calls:
    """Of one kind of step, or of all steps in a wider circle."""

    ended: float = 0.0
    """Those that ended well, older ones fading out, ..."""
    prompt_tokens: float = 0.0
    """... the sum of their prompt tokens, ..."""
    computed_tokens: float = 0.0
    """... and of those that no cache had."""
    output_tokens: Mean = field(default_factory=Mean)
    wait_s: Sketch = field(default_factory=Sketch)
    """From the end of what a step came after to its coming."""

    def add(self, prompt_tokens: int, computed_tokens: int) -> None:
        self.ended = self.ended * FADE + 1.0
        self.prompt_tokens = self.prompt_tokens * FADE + prompt_tokens
        self.computed_tokens = self.computed_tokens * FADE + computed_tokens

    @property
    def known(self) -> bool:
        return self.ended >= _FEW

    def usual_computed_tokens(self) -> float:
        return self.computed_tokens / self.ended

    def computed_share(self) -> float:
        """Of prompt tokens, those that no cache had."""
        return self.computed_tokens / self.prompt_tokens if self.prompt_tokens else 1.0


@dataclass(slots=True)
class ClassHistory:
    """Of the programs of one class of one tenant."""

    everyone: Calls
    """Of all classes and tenants."""
    all: Calls = field(default_factory=Calls)
    kinds: OrderedDict[str, Calls] = field(default_factory=OrderedDict)
    lengths: Lengths = field(default_factory=Lengths)
    levels: Mean = field(default_factory=Mean)
    """For each call but programs' first ones, by how many calls it made the longest path longer: 1 in a chain, less
    where steps run side by side, ..."""
    reaches_s: Mean = field(default_factory=Mean)
    """... and by how many seconds."""
    hint_errors: Mean = field(default_factory=Mean)
    """|ln(output tokens / hinted)| of steps that came with a hint, ..."""
    own_errors: Mean = field(default_factory=Mean)
    """... and |ln(output tokens / what was usual)| of the same steps."""

    def calls(self, kind: str) -> Calls:
        """The narrowest circle that is known."""
        for calls in (self.kinds.get(kind), self.all, self.everyone):
            if calls is not None and calls.known:
                return calls
        return self.everyone

    def waits_s(self, kind: str) -> Sketch:
        """Tool waits before steps of that kind, or those of the next wider circle of which there are some."""
        for calls in (self.kinds.get(kind), self.all):
            if calls is not None and calls.wait_s.observations >= _FEW:
                return calls.wait_s
        return self.everyone.wait_s

    def breadth(self) -> float:
        """Calls per call on the longest path, at least 1: that, until more is known."""
        return max((self.levels.observations + _FEW) / (self.levels.sum + _FEW), 1.0)

    def level_s(self) -> float | None:
        """Seconds by which a program's longest path grows with each of its calls: waits, and the slowest of those that
        run side by side. None: too little was seen."""
        if self.levels.sum < _FEW or not self.reaches_s.known:
            return None
        return self.reaches_s.mean() / self.levels.mean()

    def hint_trust(self) -> float:
        """How much of what clients say of output lengths is believed, from 0 to 1, the rest being what is usual: by
        how far off either was, in logarithms."""
        if not self.hint_errors.known:
            return 1.0
        own, hinted = self.own_errors.mean() ** 2, self.hint_errors.mean() ** 2
        return own / (own + hinted) if hinted else 1.0

    def called(self, kind: str, prompt_tokens: int, computed_tokens: int, output_tokens: int | None) -> None:
        """A step of that kind ended well."""
        for calls in (self._kind(kind), self.all, self.everyone):
            calls.add(prompt_tokens, computed_tokens)
            if output_tokens is not None:
                calls.output_tokens.add(output_tokens)

    def waited(self, kind: str, seconds: float) -> None:
        """A step of that kind came so long after what it followed."""
        for calls in (self._kind(kind), self.all, self.everyone):
            calls.wait_s.add(seconds)

    def hinted(self, hint_error: float, own_error: float) -> None:
        self.hint_errors.add(hint_error)
        self.own_errors.add(own_error)

    def _kind(self, kind: str) -> Calls:
        calls = self.kinds.get(kind)
        if calls is None:
            calls = self.kinds[kind] = Calls()
            if len(self.kinds) > _MAX_KINDS:
                self.kinds.popitem(last=False)
        else:
            self.kinds.move_to_end(kind)
        return calls


class History:
    """The histories of all classes, bounded: the tenant with most classes forgets its own first."""

    def __init__(self, max_classes: int = 1024) -> None:
        self._everyone = Calls()
        self.output_share = Mean()
        """Output tokens of answers as a share of the ``max_tokens`` that was asked for."""
        self._classes: FairTable[ClassHistory] = FairTable(max_classes)

    def of(self, tenant: str, program_class: str) -> ClassHistory:
        key = tenant, program_class
        known = self._classes.get(key)
        if known is not None:
            self._classes.use(key)
            return known
        known = ClassHistory(self._everyone)
        self._classes.put(key, known)
        while (surplus := self._classes.surplus(tenant)) is not None:
            self._classes.pop(surplus)
        return known
