"""What of a publisher's stream has been applied, and how far that can be trusted."""

from __future__ import annotations

from router.core.types import IndexState
from router.engine.kv_events.actions import Action, Announce, Apply, Reset


class Stream:
    """Collects actions until they are taken.

    Invariant: what was applied since the last reset (or drop) is one contiguous piece of one publisher's stream,
    each message once. When ``state`` is SYNCED the piece begins with number 0 or with an empty cache.
    """

    def __init__(self) -> None:
        self.state = IndexState.PARTIAL
        self.next_seq = 0
        self.last = b""
        """Payload of message ``next_seq - 1``."""
        self.whole = True
        """Nothing that the publisher holds was published before the piece began."""
        self.epoch = 0
        """Which piece this is."""
        self.lost = 0
        """How often messages were given up."""
        self._actions: list[Action] = []

    def add(self, action: Action) -> None:
        self._actions.append(action)

    def take(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions

    def apply(self, payloads: list[bytes]) -> None:
        """``next_seq`` is already behind them."""
        if payloads:
            self.last = payloads[-1]
            self.add(Apply(payloads, self.epoch))

    def skip_to(self, seq: int) -> None:
        """Messages before ``seq`` are lost. At the very start that only means that history is unknown."""
        late_start = self.next_seq == 0
        self.next_seq = seq
        self.whole = False
        self.epoch += 1
        if late_start:
            self.announce(IndexState.PARTIAL)
        else:
            self.lost += 1
            self.announce(IndexState.DEGRADED)

    def forget(self, restarted: bool) -> None:
        """Begins again before number 0."""
        self.next_seq = 0
        self.last = b""
        self.whole = True
        self.epoch += 1
        self.add(Reset(restarted))

    def go_by_number(self, seq: int) -> None:
        """A number that does not follow on, and nobody to ask: higher is a gap, lower a restart."""
        if seq < self.next_seq:
            self.forget(restarted=True)
        if seq > self.next_seq:
            self.skip_to(seq)

    def doubt(self) -> None:
        """Something that should be known is not. Before the first message that is no news."""
        self.whole = self.next_seq == 0
        if self.state is IndexState.SYNCED:
            self.announce(IndexState.PARTIAL)

    def settle(self) -> None:
        """All that was published has been applied."""
        if self.whole:
            self.announce(IndexState.SYNCED)

    def announce(self, state: IndexState) -> None:
        if state is not self.state or state is IndexState.DEGRADED:
            self.state = state
            self.add(Announce(state))
