"""KV events of one replica over ZMQ: a ``Sequence`` with sockets.

The SUB socket is drained whenever its file descriptor says so: many messages, one decode, one call of the router.
vLLM sends ``topic | seq (8 bytes, big-endian) | payload``; its replay socket answers ``"" | seq`` with
``"" | [topic] | seq | payload`` for each message that it still has and ends with an empty payload (no topic up to
vLLM 0.23).
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Iterable

import zmq
from zmq.utils.monitor import parse_monitor_message

from router.engine.context import EngineContext
from router.engine.kv_events.actions import Action, Announce, Apply, AskReplay, Message, Reset, StopReplay
from router.engine.kv_events.endpoints import EventSource
from router.engine.kv_events.sequence import Sequence, SequenceSettings
from router.engine.kv_events.wire import EventDecoder

MAX_MESSAGES = 256
MAX_BYTES = 1 << 20
"""Read at most this much before the event loop may do something else."""

MAX_MESSAGE_BYTES = 64 << 20

_END_SEQ = b"\xff" * 8
_WATCHED = zmq.Event.HANDSHAKE_SUCCEEDED | zmq.Event.DISCONNECTED


class KvSubscriber:
    """From ``start`` to ``close``, hands the events of replica ``name`` to the router. Needs a running event loop.

    ``on_restart`` is called when another process answers at the endpoint.
    """

    def __init__(
        self,
        name: str,
        source: EventSource,
        decoder: EventDecoder,
        context: EngineContext,
        on_restart: Callable[[], None],
        settings: SequenceSettings | None = None,
    ) -> None:
        self.name = name
        self.source = source
        self.sequence = Sequence(bool(source.replay_endpoint), settings)
        self.connected = False
        self.messages = 0
        self.ignored: Counter[str] = Counter()
        """What the decoder skipped, by reason."""
        self._decoder = decoder
        self._context = context
        self._on_restart = on_restart
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_s = 0.0
        self._replay: zmq.Socket[bytes] | None = None
        self._live = self._open(zmq.SUB)
        self._monitor = self._live.get_monitor_socket(_WATCHED)
        self._closed = False

    def start(self) -> None:
        """Connects. Raises ``zmq.ZMQError`` when the endpoint is not one."""
        self._context.router.on_index_state(self.name, self.sequence.state, self._context.clock())
        self._live.setsockopt(zmq.SUBSCRIBE, b"")
        self._live.connect(self.source.endpoint)
        self._loop.add_reader(self._monitor.fileno(), self._read_monitor)
        self._loop.add_reader(self._live.fileno(), self._read_live)
        self._loop.call_soon(self._read_live)

    def close(self) -> None:
        """Safe to call twice."""
        if self._closed:
            return
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        self._stop_replay()
        self._loop.remove_reader(self._monitor.fileno())
        self._loop.remove_reader(self._live.fileno())
        self._live.disable_monitor()
        self._monitor.close(0)
        self._live.close(0)

    def _read_monitor(self) -> None:
        """Connections made and lost. Messages of the old connection go before news of the next one."""
        while not self._closed:
            try:
                event = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))["event"]
            except zmq.Again:
                return
            self.connected = event == zmq.Event.HANDSHAKE_SUCCEEDED
            if not self.connected:
                self._perform(self.sequence.disconnected())
                continue
            while not self._drain_live():
                pass
            self._perform(self.sequence.connected(self._context.clock()))

    def _read_live(self) -> None:
        if self._closed:
            return
        self._read_monitor()
        if not self._drain_live():
            self._loop.call_soon(self._read_live)

    def _drain_live(self) -> bool:
        """Reads live messages up to the limits; True when there were no more."""
        batch: list[Message] = []
        size = 0
        drained = False
        receive = self._live.recv
        flag = zmq.NOBLOCK
        while len(batch) < MAX_MESSAGES and size < MAX_BYTES:
            try:
                receive(flag)
                seq, payload = receive(flag), receive(flag)
            except zmq.Again:
                drained = True
                break
            if len(seq) != 8 or self._live.getsockopt(zmq.RCVMORE):
                self._skip_message()
                continue
            batch.append(Message(int.from_bytes(seq, "big"), payload))
            size += len(payload)
        if batch:
            self.messages += len(batch)
            self._perform(self.sequence.messages(batch, self._context.clock()))
        return drained

    def _skip_message(self) -> None:
        """The rest of a message that is not topic, number, payload."""
        while self._live.getsockopt(zmq.RCVMORE):
            self._live.recv(zmq.NOBLOCK)
        self._note_malformed()

    def _note_malformed(self) -> None:
        self._context.troubles.note("malformed_event_frames", self.name, "not the frames of a KV event message")

    def _read_replay(self) -> None:
        """Answers of the replay socket, after all live messages that came before them."""
        socket = self._replay
        if socket is None or self._closed:
            return
        self._read_monitor()
        if not self._drain_live():
            self._loop.call_soon(self._read_replay)
            return
        if socket is not self._replay:
            return
        batch, ended, drained = self._drain_replay(socket)
        if batch:
            self._perform(self.sequence.replayed(batch, self._context.clock()))
        if ended and socket is self._replay:
            self._perform(self.sequence.replay_ended(self._context.clock()))
        if not drained and socket is self._replay:
            self._loop.call_soon(self._read_replay)

    def _drain_replay(self, socket: zmq.Socket[bytes]) -> tuple[list[Message], bool, bool]:
        """Reads answers up to the limits: the messages, whether the end mark came, whether there were no more."""
        batch: list[Message] = []
        size = 0
        while len(batch) < MAX_MESSAGES and size < MAX_BYTES:
            try:
                frames = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return batch, False, True
            if len(frames) < 3 or len(frames[-2]) != 8:
                self._note_malformed()
                continue
            seq, payload = frames[-2:]
            if seq == _END_SEQ and not payload:
                return batch, True, False
            batch.append(Message(int.from_bytes(seq, "big"), payload))
            size += len(payload)
        return batch, False, False

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

    def _ask_replay(self, first_seq: int) -> None:
        """On a socket of its own, so that late answers to an earlier question cannot be taken for this one's."""
        self._stop_replay()
        self._replay = socket = self._open(zmq.DEALER)
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
        if deadline_s < float("inf"):
            self._timer = self._loop.call_later(max(deadline_s - self._context.clock(), 0.0), self._tick)

    def _tick(self) -> None:
        self._timer_s = 0.0
        self._perform(self.sequence.tick(self._context.clock()))

    def _open(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.zmq.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.IPV6, 1)
        socket.setsockopt(zmq.RCVHWM, 100_000)
        socket.setsockopt(zmq.MAXMSGSIZE, MAX_MESSAGE_BYTES)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, 5_000)
        socket.setsockopt(zmq.HEARTBEAT_IVL, 10_000)
        socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, 30_000)
        return socket
