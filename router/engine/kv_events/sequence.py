"""Which KV events may be applied: one publisher's numbered stream, its gaps, replays and restarts.

A publisher numbers its messages from 0 each time it starts, and keeps the last ones for replay. ``Sequence`` is told
what arrives and answers with what to do, in order; it knows no socket and no clock.

Every doubt is settled in the same way. A number that is missing, a number that goes back, a new connection: ask for
a replay that begins with the last message that was applied, and hold what arrives meanwhile. If the replay begins
with the very same bytes, the publisher is the same one and the stream goes on; if not, it has started anew and its
stream is read from 0. Without an answer only the numbers are left to go by, until the whole history is asked for
again. Without any replay socket a new connection counts as a restart, which it mostly is.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from router.core.types import IndexState
from router.engine.kv_events.actions import Action, Apply, AskReplay, Message, StopReplay
from router.engine.kv_events.stream import Stream


@dataclass(slots=True, frozen=True)
class SequenceSettings:
    replay_timeout_s: float = 5.0
    """Silence of the replay socket after which it counts as unable to answer."""
    retry_s: float = 30.0
    """Then the numbers alone decide for this long, and the whole history is asked for again."""
    audit_cooldown_s: float = 300.0
    """Unknown parents in a whole history cause one replay of all of it, but not again within this time."""
    max_held: int = 10_000
    """Live messages held during a replay. More are dropped, counted, and found missing afterwards."""


@dataclass(slots=True)
class _Replay:
    """A question that is under way."""

    rebuild: bool
    """All of the history, in place of what is known: live messages are held from its first answer on."""
    deadline_s: float
    answered: bool = False
    progressed: bool = False


_FRUITLESS_REPLAYS = 2
"""A hole that this many replays in a row did not fill is there for good. One is not enough: the publisher may have
answered it just before it published what was then found missing."""


class Sequence:
    """The state machine. All methods but properties return the actions to carry out, in order."""

    def __init__(self, can_replay: bool, settings: SequenceSettings | None = None) -> None:
        self.settings = settings or SequenceSettings()
        self.counts: Counter[str] = Counter()
        self._stream = Stream()
        self._can_replay = can_replay
        self._disconnected = True
        self._unproven = False
        self._history_unasked = False
        self._replay: _Replay | None = None
        self._held: list[Message] = []
        self._fruitless = 0
        self._retry_s = math.inf
        self._audit_s = -math.inf

    @property
    def state(self) -> IndexState:
        return self._stream.state

    @property
    def next_seq(self) -> int:
        """The number that is expected next."""
        return self._stream.next_seq

    @property
    def lost(self) -> int:
        """How often messages were given up."""
        return self._stream.lost

    @property
    def deadline_s(self) -> float:
        """When to call ``tick``; infinite when nothing is awaited."""
        return self._retry_s if self._replay is None else self._replay.deadline_s

    def connected(self, now: float) -> list[Action]:
        """A connection was made, the first or another one. Nothing that came over earlier ones may follow."""
        self._disconnected = False
        self._unproven = True
        self._retry_s = math.inf
        if self._can_replay:
            self._resume(now)
        else:
            self._go_on_unproven()
        return self._stream.take()

    def disconnected(self) -> list[Action]:
        """What is held, and what may still come over the old connection, is dropped: the publisher may be another
        one by the time a replay is answered. Should it be the same, the replay brings it.
        """
        self._disconnected = True
        self._drop_held()
        return self._stream.take()

    def messages(self, batch: list[Message], now: float) -> list[Action]:
        """Live messages, in the order of arrival."""
        if self._disconnected:
            self.counts["dropped"] += len(batch)
        elif self._holding:
            self._hold(batch)
        else:
            self._follow(batch, now)
        return self._stream.take()

    def replayed(self, batch: list[Message], now: float) -> list[Action]:
        """Answers to the last ``AskReplay``; never empty."""
        replay = self._replay
        if replay is not None:
            replay.deadline_s = now + self.settings.replay_timeout_s
            if replay.answered or self._begin(batch[0], replay, now):
                self._catch_up(batch, replay, now)
        return self._stream.take()

    def replay_ended(self, now: float) -> list[Action]:
        """The end mark of the last ``AskReplay``."""
        replay = self._replay
        if replay is not None:
            if not replay.answered and self.next_seq > 0:
                self._restart(now)
            else:
                self._end(replay, now)
        return self._stream.take()

    def applied(self, done: Apply, unknown_parents: int, cleared: bool, now: float) -> list[Action]:
        """What the index made of ``done``."""
        if done.epoch == self._stream.epoch:
            if cleared:
                self._stream.whole = True
                if self._replay is None:
                    self._stream.settle()
            elif unknown_parents and self.state is IndexState.SYNCED:
                self._audit(now)
        return self._stream.take()

    def tick(self, now: float) -> list[Action]:
        """Time has passed ``deadline_s``."""
        if now >= self.deadline_s:
            if self._replay is None:
                self._rebuild(now)
            elif not (self._replay.progressed and self._ask_again(True, now)):
                self._go_without_answer(self._replay, now)
        return self._stream.take()

    @property
    def _holding(self) -> bool:
        return self._replay is not None and (self._replay.answered or not self._replay.rebuild)

    @property
    def _may_ask(self) -> bool:
        """Not while the replay socket is known not to answer."""
        return self._can_replay and self._retry_s == math.inf

    def _follow(self, batch: list[Message], now: float) -> None:
        """Applies live messages as long as their numbers follow on."""
        stream = self._stream
        payloads: list[bytes] = []
        for position, (seq, payload) in enumerate(batch):
            if seq != stream.next_seq:
                stream.apply(payloads)
                self.counts["gaps" if seq > stream.next_seq else "reversals"] += 1
                if self._may_ask:
                    self._resume(now)
                    self._hold(batch[position:])
                    return
                stream.go_by_number(seq)
                payloads = []
            payloads.append(payload)
            stream.next_seq = seq + 1
        if payloads:
            stream.apply(payloads)
            stream.settle()

    def _hold(self, batch: list[Message]) -> None:
        if len(self._held) + len(batch) > self.settings.max_held:
            self._drop_held()
        self._held.extend(batch)

    def _drop_held(self) -> None:
        self.counts["dropped"] += len(self._held)
        self._held = []

    def _resume(self, now: float) -> None:
        """Asks for what follows the last applied message, and for that message itself as a proof."""
        self._ask(max(self.next_seq - 1, 0), rebuild=False, now=now)

    def _rebuild(self, now: float) -> None:
        """Asks for all of the history."""
        self._ask(0, rebuild=True, now=now)

    def _ask(self, first_seq: int, rebuild: bool, now: float) -> None:
        self.counts["replays"] += 1
        self._retry_s = math.inf
        self._replay = _Replay(rebuild, now + self.settings.replay_timeout_s)
        self._stream.add(AskReplay(first_seq))

    def _ask_again(self, progressed: bool, now: float) -> bool:
        """Whether it is worth while to ask for what is still missing."""
        self._fruitless = 0 if progressed else self._fruitless + 1
        if self._fruitless >= _FRUITLESS_REPLAYS:
            self._fruitless = 0
            return False
        self._resume(now)
        return True

    def _begin(self, first: Message, replay: _Replay, now: float) -> bool:
        """Judges a replay by its first message; False when the rest of it is of no use."""
        stream = self._stream
        replay.answered = True
        if replay.rebuild:
            self._history_unasked = False
            if first.seq > 0:
                self._close_replay()
                stream.doubt()
                return False
            stream.forget(restarted=False)
        elif stream.next_seq == 0:
            stream.go_by_number(first.seq)
        elif first.seq >= stream.next_seq:
            stream.skip_to(first.seq)
        elif first != (stream.next_seq - 1, stream.last):
            self._restart(now)
            return False
        self._unproven = False
        return True

    def _catch_up(self, batch: list[Message], replay: _Replay, now: float) -> None:
        """Applies what a replay brings. vLLM's socket drops messages when they are not read fast enough."""
        stream = self._stream
        payloads: list[bytes] = []
        for seq, payload in batch:
            if seq > stream.next_seq:
                stream.apply(payloads)
                if self._ask_again(replay.progressed or bool(payloads), now):
                    return
                stream.skip_to(seq)
                payloads = []
            if seq == stream.next_seq:
                payloads.append(payload)
                stream.next_seq += 1
        stream.apply(payloads)
        replay.progressed |= bool(payloads)

    def _end(self, replay: _Replay, now: float) -> None:
        """Goes from the replay to the live messages that were held, if they follow on."""
        stream = self._stream
        held = [message for message in self._held if message.seq >= stream.next_seq]
        if held and held[0].seq > stream.next_seq:
            self._held = held
            if self._ask_again(replay.progressed, now):
                return
            stream.skip_to(held[0].seq)
        self._close_replay()
        self._fruitless = 0
        stream.settle()
        if self._history_unasked and not stream.whole:
            self._rebuild(now)
        self._follow(held, now)

    def _restart(self, now: float) -> None:
        """Another process answered. What it has published so far comes with the next replay."""
        self.counts["restarts"] += 1
        self._drop_held()
        self._stream.forget(restarted=True)
        self._resume(now)

    def _audit(self, now: float) -> None:
        """The history is whole and yet parents are missing: read it once more, then believe it."""
        if now < self._audit_s or not self._may_ask:
            self._stream.doubt()
        elif self._replay is None:
            self.counts["audits"] += 1
            self._audit_s = now + self.settings.audit_cooldown_s
            self._rebuild(now)

    def _go_without_answer(self, replay: _Replay, now: float) -> None:
        self.counts["replays_unanswered"] += 1
        held = self._held
        self._close_replay()
        self._retry_s = now + self.settings.retry_s
        self._history_unasked = True
        if self._unproven:
            self._go_on_unproven()
        elif replay.rebuild:
            self._stream.doubt()
        self._follow(held, now)

    def _go_on_unproven(self) -> None:
        """Nobody can say whether the new connection leads to the same publisher. Mostly it was restarted."""
        if self.next_seq > 0:
            self._stream.forget(restarted=True)
            self._stream.announce(IndexState.PARTIAL)
        self._unproven = False

    def _close_replay(self) -> None:
        self._replay = None
        self._held = []
        self._stream.add(StopReplay())
