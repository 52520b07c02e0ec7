"""KV events of one replica over ZMQ: a ``Sequence`` with sockets.

The SUB socket is drained whenever its file descriptor says so: many messages, one decode, one call of the router.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable, Iterable

import zmq

from router.engine.context import EngineContext
from router.engine.kv_events.actions import Action, Announce, Apply, AskReplay, Message, Reset, StopReplay
from router.engine.kv_events.endpoints import EventSource
from router.engine.kv_events.sequence import Sequence, SequenceSettings
from router.engine.kv_events.sockets import (
    CONNECTION_EVENTS,
    Received,
    Socket,
    open_socket,
    receive_live,
    receive_news,
    receive_replay,
)
from router.engine.kv_events.wire import EventDecoder

UNHEARD_S = 10.0
"""A publisher that cannot be connected to for so long is worth a warning."""


class KvSubscriber:
    """From ``start`` to ``close``, hands the events of replica ``name`` to the router. Needs a running event loop.

    ``on_heard`` is called when the publisher is connected to for the first time, ``on_restart`` whenever another
    process answers in its place.
    """

    def __init__(
        self,
        name: str,
        model: str,
        source: EventSource,
        context: EngineContext,
        on_heard: Callable[[], None],
        on_restart: Callable[[], None],
        settings: SequenceSettings | None = None,
    ) -> None:
        self.name = name
        self.model = model
        self.source = source
        self.sequence = Sequence(bool(source.replay_endpoint), settings)
        self.heard = False
        self.connected = False
        self.messages = 0
        self.ignored: Counter[str] = Counter()
        """What the decoder skipped, by reason."""
        self._decoder = EventDecoder(model)
        self._context = context
        self._on_heard = on_heard
        self._on_restart = on_restart
        self._loop = asyncio.get_running_loop()
        self._unheard: asyncio.TimerHandle | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        self._replay: Socket | None = None
        self._live = open_socket(context.zmq, zmq.SUB)
        self._monitor = self._live.get_monitor_socket(CONNECTION_EVENTS)
        self._closed = False

    def start(self) -> None:
        """Connects. Raises ``zmq.ZMQError`` when the endpoint is not one."""
        self._live.setsockopt(zmq.SUBSCRIBE, b"")
        self._live.connect(self.source.endpoint)
        self._loop.add_reader(self._monitor.fileno(), self._read)
        self._loop.add_reader(self._live.fileno(), self._read)
        self._loop.call_soon(self._read)
        self._unheard = self._loop.call_later(UNHEARD_S, self._note_unheard)

    def close(self) -> None:
        """Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        for timer in (self._timer, self._unheard):
            if timer is not None:
                timer.cancel()
        self._stop_replay()
        self._loop.remove_reader(self._monitor.fileno())
        self._loop.remove_reader(self._live.fileno())
        self._live.disable_monitor()
        self._monitor.close(0)
        self._live.close(0)

    def _read(self) -> None:
        if not self._closed and not self._read_some():
            self._loop.call_soon(self._read)

    def _read_some(self) -> bool:
        """Takes in news of the connection and live messages up to the limits; True when there were no more.

        A connection is announced before it carries anything. So of what is read before the news: if a connection was
        lost, it came over the old one; if one was made, over the new one; if both, nobody can tell.
        """
        received = self._receive()
        news = receive_news(self._monitor)
        if len(news) > 1:
            self.sequence.counts["dropped"] += len(received.messages)
            received.messages = []
        for made in news:
            self.connected = made
            if made:
                self._hear()
            else:
                self._take_in(received.messages)
                while not received.drained:
                    received = self._receive()
                    self._take_in(received.messages)
                received.messages = []
                self._perform(self.sequence.disconnected())
        self._take_in(received.messages)
        return received.drained

    def _receive(self) -> Received:
        received = receive_live(self._live)
        self._note_malformed(received.malformed)
        return received

    def _take_in(self, messages: list[Message]) -> None:
        if messages:
            self.messages += len(messages)
            self._perform(self.sequence.messages(messages, self._context.clock()))

    def _hear(self) -> None:
        now = self._context.clock()
        if not self.heard:
            self.heard = True
            self._on_heard()
            self._context.router.on_index_state(self.name, self.sequence.state, now)
        self._perform(self.sequence.connected(now))

    def _read_replay(self) -> None:
        """Answers of the replay socket, after all live messages that came before them."""
        socket = self._replay
        if socket is None or self._closed:
            return
        if not self._read_some():
            self._loop.call_soon(self._read_replay)
        elif socket is self._replay:
            self._take_in_replay(socket)

    def _take_in_replay(self, socket: Socket) -> None:
        received = receive_replay(socket)
        self._note_malformed(received.malformed)
        if received.messages:
            self._perform(self.sequence.replayed(received.messages, self._context.clock()))
        if received.ended and socket is self._replay:
            self._perform(self.sequence.replay_ended(self._context.clock()))
        if not received.drained and socket is self._replay:
            self._loop.call_soon(self._read_replay)

    def _perform(self, actions: Iterable[Action]) -> None:
        todo = deque(actions)
        router, now = self._context.router, self._context.clock()
        while todo:
            match todo.popleft():
                case Apply() as done:
                    todo.extend(self._apply(done, now))
                case Reset(restarted):
                    router.on_index_reset(self.name, now)
                    if restarted:
                        self._on_restart()
                case Announce(state):
                    router.on_index_state(self.name, state, now)
                case AskReplay(first_seq):
                    self._ask_replay(first_seq)
                case StopReplay():
                    self._stop_replay()
        self._set_timer()

    def _apply(self, done: Apply, now: float) -> list[Action]:
        batch = self._decoder.decode(done.payloads)
        if batch.ignored:
            self.ignored.update(batch.ignored)
            self._note_ignored(batch.ignored)
        applied = self._context.router.on_kv_events(self.name, batch, now)
        return self.sequence.applied(done, applied.unknown_parents, applied.clears > 0, now)

    def _note_ignored(self, ignored: Counter[str]) -> None:
        for reason, times in ignored.items():
            self._context.troubles.note("ignored_event", self.name, f"KV events left out: {reason}", times)

    def _note_malformed(self, times: int) -> None:
        if times:
            message = "not the frames of a KV event message"
            self._context.troubles.note("malformed_event_frames", self.name, message, times)

    def _note_unheard(self) -> None:
        if not self.heard:
            message = (
                f"no connection to its KV events at {self.source.endpoint}; going by own history until there is one"
            )
            self._context.troubles.note("events_unheard", self.name, message)

    def _ask_replay(self, first_seq: int) -> None:
        """On a socket of its own, so that late answers to an earlier question cannot be taken for this one's."""
        self._stop_replay()
        self._replay = socket = open_socket(self._context.zmq, zmq.DEALER)
        socket.connect(self.source.replay_endpoint)
        socket.send_multipart([b"", first_seq.to_bytes(8, "big")], zmq.NOBLOCK)
        self._loop.add_reader(socket.fileno(), self._read_replay)
        self._loop.call_soon(self._read_replay)

    def _stop_replay(self) -> None:
        if self._replay is not None:
            self._loop.remove_reader(self._replay.fileno())
            self._replay.close(0)
            self._replay = None

    def _set_timer(self) -> None:
        deadline_s = self.sequence.deadline_s
        if deadline_s == self._timer_s:
            return
        self._timer_s = deadline_s
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if deadline_s < math.inf:
            self._timer = self._loop.call_later(max(deadline_s - self._context.clock(), 0.0), self._tick)

    def _tick(self) -> None:
        self._timer_s = 0.0
        self._perform(self.sequence.tick(self._context.clock()))
