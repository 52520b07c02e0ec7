"""Whatever is lost, repeated, cut off or restarted: what is applied is one piece of one publisher's stream.

The model is a publisher with a bounded replay buffer behind a lossy connection. Payloads are unique, so the stream
that the index has seen can be compared with what was really sent.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from router.core.types import IndexState
from router.engine.kv_events.actions import Announce, Apply, AskReplay, Message, Reset, StopReplay
from router.engine.kv_events.sequence import Sequence, SequenceSettings

PLAIN, CLEARS, ORPHAN = "plain", "clears", "orphan"
END = "end mark"


@dataclass(frozen=True)
class Sent:
    life: int
    seq: int
    kind: str

    @property
    def payload(self) -> bytes:
        return f"{self.life}/{self.seq}/{self.kind}".encode()

    @classmethod
    def read(cls, payload: bytes) -> Sent:
        life, seq, kind = payload.decode().split("/")
        return cls(int(life), int(seq), kind)


class World(RuleBasedStateMachine):
    """Publisher, connection, shell and index around a ``Sequence``."""

    @initialize(buffer=st.sampled_from([1, 2, 5, 1000]), can_replay=st.booleans(), history=st.integers(0, 4))
    def begin(self, buffer: int, can_replay: bool, history: int) -> None:
        self.now = 0.0
        self.buffer_size, self.can_replay = buffer, can_replay
        self.sequence = Sequence(can_replay, SequenceSettings(max_held=6, audit_cooldown_s=50.0))
        self.life = 0
        self.sent: list[Sent] = []
        self.buffer: deque[Sent] = deque(maxlen=buffer)
        self.live: deque[Sent | str] = deque()
        self.question: int | None = None
        self.answers: deque[Sent | str] = deque()
        self.index: list[Sent] = []
        self.orphans = False
        self.linked = False
        for _ in range(history):
            self._publish(PLAIN, arrives=False)
        self.link()

    @rule(
        kinds=st.lists(st.sampled_from([PLAIN] * 8 + [CLEARS, ORPHAN]), min_size=1, max_size=4),
        arrives=st.sampled_from([True, True, True, False]),
    )
    def publish(self, kinds: list[str], arrives: bool) -> None:
        for kind in kinds:
            self._publish(kind, arrives)

    @rule(heard_early=st.booleans(), missed=st.integers(0, 3), back=st.booleans())
    def cut(self, heard_early: bool, missed: int, back: bool) -> None:
        """The connection breaks. The shell may hear of it before it has read all that came over it."""
        if self.linked:
            self.linked = False
            position = len(self.live)
            while heard_early and position > 0 and isinstance(self.live[position - 1], Sent):
                position -= 1
            self.live.insert(position, "disconnected")
        for _ in range(missed):
            self._publish(PLAIN, arrives=False)
        if back:
            self.link()

    @rule()
    def link(self) -> None:
        if not self.linked:
            self.linked = True
            self.live.append("connected")

    @rule(
        heard_early=st.booleans(),
        answers_lost=st.booleans(),
        history=st.integers(-1, 2),
        back=st.sampled_from([True, True, False]),
    )
    def restart(self, heard_early: bool, answers_lost: bool, history: int, back: bool) -> None:
        """A new publisher, about as busy as the old one was. It may answer a question asked of the old one."""
        self.cut(heard_early, 0, False)
        if answers_lost:
            self.question = None
            self.answers.clear()
        count = max(len(self.sent) + history, 0)
        self.life += 1
        self.sent = []
        self.buffer.clear()
        for _ in range(count):
            self._publish(PLAIN, arrives=False)
        if back:
            self.link()

    @rule(count=st.integers(1, 6))
    def deliver(self, count: int) -> None:
        batch: list[Message] = []
        for _ in range(min(count, len(self.live))):
            fact = self.live.popleft()
            if isinstance(fact, Sent):
                batch.append(Message(fact.seq, fact.payload))
                continue
            self._messages(batch)
            batch = []
            connected = fact == "connected"
            self._perform(self.sequence.connected(self.now) if connected else self.sequence.disconnected())
        self._messages(batch)

    @rule(lost=st.sets(st.integers(1, 8), max_size=2))
    def answer(self, lost: set[int]) -> None:
        """The publisher answers the question, the socket drops some of it, though never the first part."""
        if self.question is not None:
            parts: list[Sent | str] = [sent for sent in self.buffer if sent.seq >= self.question]
            parts.append(END)
            self.answers.extend(part for position, part in enumerate(parts) if position not in lost)
            self.question = None

    @rule(count=st.integers(1, 6))
    def deliver_answers(self, count: int) -> None:
        """The shell reads all live messages before it looks at answers."""
        self.deliver(len(self.live))
        batch: list[Message] = []
        while self.answers and len(batch) < count and isinstance(self.answers[0], Sent):
            part = self.answers.popleft()
            assert isinstance(part, Sent)
            batch.append(Message(part.seq, part.payload))
        if batch:
            self._perform(self.sequence.replayed(batch, self.now))
        elif self.answers:
            self.answers.popleft()
            self._perform(self.sequence.replay_ended(self.now))

    @rule()
    def calm(self) -> None:
        """Everything under way arrives."""
        for _ in range(3):
            self.answer(set())
            self.deliver_answers(1000)
            while self.answers:
                self.deliver_answers(1000)

    @rule(seconds=st.sampled_from([1.0, 5.0, 30.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self._perform(self.sequence.tick(self.now))

    @invariant()
    def applied_is_one_piece_of_one_life(self) -> None:
        for before, after in zip(self.index, self.index[1:], strict=False):
            assert (after.life, after.seq) == (before.life, before.seq + 1)

    @invariant()
    def synced_means_from_the_start_or_from_an_empty_cache(self) -> None:
        if self.sequence.state is IndexState.SYNCED and self.index:
            assert self.index[0].seq == 0 or any(sent.kind == CLEARS for sent in self.index)

    def teardown(self) -> None:
        """Once the connection is quiet, the index is up to date; and it is whole when history can be had."""
        if not hasattr(self, "sequence"):
            return
        self.link()
        self._publish(PLAIN, arrives=True)
        for _ in range(20):
            self.calm()
            if self.question is None and math.isfinite(self.sequence.deadline_s):
                self.wait(max(self.sequence.deadline_s - self.now, 0.0))
        assert self.sequence.deadline_s == math.inf, "still waiting for something"
        assert self.index[-1] == self.sent[-1]
        emptied = any(sent.kind == CLEARS for sent in self.index)
        whole = self.index == self.sent or emptied
        if self.sequence.state is IndexState.SYNCED:
            assert whole
        history_kept = self.can_replay and self.buffer_size >= len(self.sent)
        if history_kept and not self.orphans:
            assert whole
            assert self.sequence.state is IndexState.SYNCED

    def _publish(self, kind: str, arrives: bool) -> None:
        sent = Sent(self.life, len(self.sent), kind)
        self.sent.append(sent)
        self.buffer.append(sent)
        self.orphans |= kind == ORPHAN
        if arrives and self.linked:
            self.live.append(sent)

    def _messages(self, batch: list[Message]) -> None:
        if batch:
            self._perform(self.sequence.messages(batch, self.now))

    def _perform(self, actions: list) -> None:
        todo = deque(actions)
        while todo:
            match todo.popleft():
                case Apply(payloads) as done:
                    sent = [Sent.read(payload) for payload in payloads]
                    self.index.extend(sent)
                    kinds = [each.kind for each in sent]
                    cleared = CLEARS in kinds
                    todo.extend(self.sequence.applied(done, kinds.count(ORPHAN), cleared, self.now))
                case Reset() | Announce(IndexState.DEGRADED):
                    self.index = []
                case AskReplay(first_seq):
                    self.question = first_seq
                    self.answers.clear()
                case StopReplay():
                    self.question = None
                    self.answers.clear()


World.TestCase.settings = settings(max_examples=200, stateful_step_count=30, deadline=None)
TestSequence = World.TestCase
